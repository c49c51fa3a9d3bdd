# SPDX-License-Identifier: Apache-2.0
"""Start MONAI Label's own server with our app."""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from medreasoner_infer.errors import MissingExtraError
from medreasoner_infer.models.registry import resolve_model

_APP_MAIN = "from monailabel_app.app import MedReasonerApp  # noqa: F401\n"


@dataclass(frozen=True)
class ServerOptions:
    """What ``medreasoner serve`` was asked for; ``studies`` is a folder or a DICOMweb address."""

    studies: str
    host: str = "127.0.0.1"
    port: int = 8000
    reasoner: str = "embedded"
    segmenter: str = "embedded"
    reasoner_url: str | None = None
    device: str = "auto"
    preload: bool = True


def home_folder() -> Path:
    """Where the server keeps what belongs to no study: ``$MEDREASONER_HOME`` or ~/.medreasoner."""
    return Path(os.environ.get("MEDREASONER_HOME", "~/.medreasoner")).expanduser()


def prepare_app_folder() -> Path:
    """Make the writable folder that MONAI Label takes as ``--app`` (it puts logs into it)."""
    folder = home_folder() / "app"
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / "main.py.part"
    unfinished.write_text(_APP_MAIN, encoding="utf-8")
    os.replace(unfinished, folder / "main.py")
    return folder


def server_arguments(options: ServerOptions, app_folder: Path) -> list[str]:
    """The command line of ``monailabel start_server`` for these options."""
    conf = {
        "reasoner": options.reasoner,
        "segmenter": options.segmenter,
        "device": options.device,
        "preload": str(options.preload).lower(),
    }
    if options.reasoner_url is not None:
        conf["reasoner_url"] = options.reasoner_url
    arguments = ["start_server", "--app", str(app_folder), "--studies", options.studies]
    arguments += ["--host", options.host, "--port", str(options.port)]
    for key, value in conf.items():
        arguments += ["--conf", key, value]
    return arguments


def run_server(options: ServerOptions) -> None:
    """Serve until stopped.

    Raises:
        MissingExtraError: if MONAI Label is not installed.
        UnknownModelError: if a model name means nothing.
    """
    if importlib.util.find_spec("monailabel") is None:
        raise MissingExtraError("monailabel", "monailabel")
    if options.reasoner_url is None:
        resolve_model("reasoner", options.reasoner)
    resolve_model("segmenter", options.segmenter)
    sys.argv = ["monailabel", *server_arguments(options, prepare_app_folder())]
    os.environ.setdefault("MONAI_LABEL_DICOMWEB_CACHE_EXPIRY", "5")
    _put_scripts_on_path()
    from monailabel.main import Main

    Main().run()


def _put_scripts_on_path() -> None:
    """dcmqi's tools are found through PATH; they lie beside this interpreter."""
    folder = str(Path(sys.executable).parent)
    if folder not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join([folder, os.environ.get("PATH", "")])
