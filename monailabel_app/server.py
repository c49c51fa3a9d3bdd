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
from monailabel_app.errors import SettingsError
from monailabel_app.security.exposure import is_loopback
from monailabel_app.security.readers import Readers
from monailabel_app.security.settings import ENV_PREFIX, SecuritySettings, security_settings

ASGI_APP = "monailabel_app.asgi:app"
_APP_MAIN = "from monailabel_app.app import MedReasonerApp  # noqa: F401\n"


@dataclass(frozen=True)
class ServerOptions:
    """What ``medreasoner serve`` was asked for; ``studies`` is a folder or a DICOMweb address.

    ``token_file``, ``allowed_origins`` and ``allow_unauthenticated`` are those of
    :class:`~monailabel_app.security.settings.SecuritySettings`; where they are not given, its
    environment variables count. The certificate and its key are PEM files.
    """

    studies: str
    host: str = "127.0.0.1"
    port: int = 8000
    reasoner: str = "embedded"
    segmenter: str = "embedded"
    reasoner_url: str | None = None
    orthanc_url: str | None = None
    train_configs: Path | None = None
    device: str = "auto"
    preload: bool = True
    token_file: Path | None = None
    allowed_origins: tuple[str, ...] = ()
    allow_unauthenticated: bool = False
    certificate: Path | None = None
    certificate_key: Path | None = None


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
    addresses = {"reasoner_url": options.reasoner_url, "orthanc_url": options.orthanc_url}
    conf |= {key: url for key, url in addresses.items() if url is not None}
    if options.train_configs is not None:
        conf["train_configs"] = str(options.train_configs.absolute())
    arguments = ["start_server", "--app", str(app_folder), "--studies", options.studies]
    arguments += ["--host", options.host, "--port", str(options.port)]
    arguments += ["--uvicorn_app", ASGI_APP]
    if options.certificate is not None:
        arguments += ["--ssl_certfile", str(options.certificate)]
    if options.certificate_key is not None:
        arguments += ["--ssl_keyfile", str(options.certificate_key)]
    for key, value in conf.items():
        arguments += ["--conf", key, value]
    return arguments


def run_server(options: ServerOptions) -> None:
    """Serve until stopped.

    Raises:
        MissingExtraError: if MONAI Label is not installed.
        UnknownModelError: if a model name means nothing.
        SettingsError: if other machines could reach the server and nobody has to log in, or the
            token file cannot be used.
    """
    if importlib.util.find_spec("monailabel") is None:
        raise MissingExtraError("monailabel", "monailabel")
    if options.reasoner_url is None:
        resolve_model("reasoner", options.reasoner)
    resolve_model("segmenter", options.segmenter)
    os.environ |= security_environment(options)
    refuse_exposure(options.host, security_settings())
    sys.argv = ["monailabel", *server_arguments(options, prepare_app_folder())]
    os.environ.setdefault("MONAI_LABEL_DICOMWEB_CACHE_EXPIRY", "5")
    from monailabel.main import Main

    Main().run()


def security_environment(options: ServerOptions) -> dict[str, str]:
    """The environment variables by which the options reach the server's access control."""
    given = {
        "TOKEN_FILE": "" if options.token_file is None else str(options.token_file.absolute()),
        "ALLOWED_ORIGINS": ",".join(options.allowed_origins),
        "ALLOW_UNAUTHENTICATED": "1" if options.allow_unauthenticated else "",
    }
    return {f"{ENV_PREFIX}{name}": value for name, value in given.items() if value}


def refuse_exposure(host: str, settings: SecuritySettings) -> None:
    """Let a server without login listen on this machine only.

    Raises:
        SettingsError: if other machines could reach it, or the token file cannot be used.
    """
    readers = Readers.of(settings)
    if readers is None and not settings.allow_unauthenticated and not is_loopback(host):
        raise SettingsError(
            f"Other machines could reach {host}, and nobody has to log in. Give --token-file with "
            "one name:token line per reader, or say --allow-unauthenticated if something in front "
            "of the server checks who is calling."
        )
