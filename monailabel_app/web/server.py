# SPDX-License-Identifier: Apache-2.0
"""Start MONAI Label's server with our app, as ``medreasoner serve`` does."""

from __future__ import annotations

import logging
import logging.config
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medreasoner_infer.addresses import is_web_address
from medreasoner_infer.atomic import replacing
from medreasoner_infer.errors import MedReasonerError, require_package
from medreasoner_infer.home import home_folder
from medreasoner_infer.models.registry import LIVE, resolve_model
from monailabel_app.common.import_path import keep_out_of_import_path
from monailabel_app.common.privacy import log_config
from monailabel_app.common.private_files import close_folders, keep_private, private_folder
from monailabel_app.errors import SettingsError, StartError
from monailabel_app.security.accounts import Accounts
from monailabel_app.security.exposure import is_loopback
from monailabel_app.security.settings import ENV_PREFIX, SecuritySettings, security_settings
from monailabel_app.settings import AppSettings
from monailabel_app.site.paths import SitePaths, require_studies

logger = logging.getLogger(__name__)

_APP_FOLDERS = ("model", "lib", "logs", "bin")
_APP_MAIN = "from monailabel_app.app import MedReasonerApp  # noqa: F401\n"


@dataclass(frozen=True)
class ServerOptions:
    """What ``medreasoner serve`` was asked for; ``studies`` is a folder or a DICOMweb address.

    ``token_file``, ``allowed_origins``, ``trusted_proxies`` and ``allow_unauthenticated`` are
    those of :class:`~monailabel_app.security.settings.SecuritySettings`; where they are not given,
    its environment variables count. The certificate and its key are PEM files. ``records`` is the
    app's ``data_dir``, ``records_database`` the app's own.
    """

    studies: str
    host: str = "127.0.0.1"
    port: int = 8000
    reasoner: str = "embedded"
    segmenter: str = "embedded"
    reasoner_url: str | None = None
    orthanc_url: str | None = None
    records: Path | None = None
    records_database: str | None = None
    train_configs: Path | None = None
    device: str = "auto"
    preload: bool = True
    token_file: Path | None = None
    allowed_origins: tuple[str, ...] = ()
    allow_unauthenticated: bool = False
    trusted_proxies: tuple[str, ...] = ()
    certificate: Path | None = None
    certificate_key: Path | None = None


def prepare_app_folder() -> Path:
    """Make the writable folder that MONAI Label takes as ``--app`` (it puts logs into it)."""
    folder = private_folder(private_folder(home_folder()) / "app")
    for name in _APP_FOLDERS:
        private_folder(folder / name)
    close_folders([folder, folder / "logs"])
    with replacing(folder / "main.py") as unfinished:
        unfinished.write_text(_APP_MAIN, encoding="utf-8")
    return folder


def app_conf(options: ServerOptions) -> dict[str, str]:
    """What these options say to the app, as ``--conf`` does; it is shown and logged nowhere."""
    conf = {
        "reasoner": options.reasoner,
        "segmenter": options.segmenter,
        "device": options.device,
        "preload": str(options.preload).lower(),
    }
    addresses = {
        "reasoner_url": options.reasoner_url,
        "orthanc_url": options.orthanc_url,
        "records_database": options.records_database,
    }
    conf |= {key: url for key, url in addresses.items() if url is not None}
    folders = {"data_dir": options.records, "train_configs": options.train_configs}
    conf |= {key: str(path.absolute()) for key, path in folders.items() if path is not None}
    return conf


def run_server(options: ServerOptions) -> None:
    """Serve until stopped.

    Raises:
        MissingExtraError: if MONAI Label is not installed.
        UnknownModelError: if a model name means nothing.
        SettingsError: if other machines could reach the server and nobody has to log in, or the
            token file, an address or the studies cannot be used.
        StartError: if something else has the address or the studies, or the app cannot be built.
    """
    require_package("monailabel", "monailabel")
    from monailabel_app.web.uvicorn_server import Listening, make_server

    conf = app_conf(options)
    _check_models(AppSettings.from_conf(conf))
    os.environ |= security_environment(options)
    settings = security_settings()
    refuse_exposure(options.host, settings)
    listening = Listening(options.host, options.port, options.certificate, options.certificate_key)
    listening.require_certificate()
    listening.require_free()
    keep_private()
    studies = _studies(options.studies)
    keep_out_of_import_path(studies)
    with _starting():
        app_folder = prepare_app_folder()
    os.environ.setdefault("MONAI_LABEL_DICOMWEB_CACHE_EXPIRY", "5")
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(home_folder() / "cache" / "torch"))
    logging.config.dictConfig(log_config(app_folder / "logs"))
    warn_of_plain_logins(options, settings)
    app = _configured_app(options, studies, app_folder, conf)
    server = make_server(app, listening, settings)
    _build_app()
    server.run()


def _check_models(settings: AppSettings) -> None:
    if settings.reasoner_url is None and settings.reasoner != LIVE:
        resolve_model("reasoner", settings.reasoner)
    resolve_model("segmenter", settings.segmenter)


def _studies(wanted: str) -> str:
    """An address as it is, a folder as an absolute path.

    Raises:
        StudiesAwayError: if there is no such folder; it may be a share that is away for a moment.
    """
    require_studies(wanted)
    return wanted if is_web_address(wanted) else os.path.realpath(wanted)


def _configured_app(
    options: ServerOptions, studies: str, app_folder: Path, conf: Mapping[str, str]
) -> Any:
    """MONAI Label's server behind our access control, told what its command line would tell it.

    Its own start writes all settings into its log and into the environment.
    """
    from monailabel.config import settings

    from monailabel_app.web.secured_app import secured_app

    settings.MONAI_LABEL_SERVER_PORT = options.port
    settings.MONAI_LABEL_APP_DIR = str(app_folder)
    settings.MONAI_LABEL_STUDIES = studies
    settings.MONAI_LABEL_APP_CONF = dict(conf)
    app = secured_app()
    paths = SitePaths.of(studies, options.records, options.records_database)
    close_folders(_folders_of_patients(settings, paths))
    return app


def _build_app() -> None:
    """Build the app, whose models it loads, before uvicorn takes over."""
    from monailabel_app.framework import app_instance

    with _starting():
        app_instance()


@contextmanager
def _starting() -> Iterator[None]:
    """Say in a sentence what keeps the server from starting; uvicorn would log a traceback.

    Raises:
        StartError: instead of our errors and the system's.
    """
    try:
        yield
    except MedReasonerError as error:
        raise StartError(str(error)) from error
    except OSError as error:
        raise StartError(
            f"The server cannot use {error.filename or 'a file'} ({error.strerror}); mend that and "
            "start again."
        ) from error


def _folders_of_patients(settings: Any, paths: SitePaths) -> list[Path]:
    """Where MONAI Label keeps images of sessions and of a PACS, and we the records."""
    cached = Path.home() / ".cache" / "monailabel"
    return [
        Path(settings.MONAI_LABEL_SESSION_PATH or cached / "sessions"),
        Path(settings.MONAI_LABEL_DICOMWEB_CACHE_PATH or cached / "dicom"),
        paths.data_dir,
        paths.own_dir,
    ]


def security_environment(options: ServerOptions) -> dict[str, str]:
    """The environment variables by which the options reach the server's access control."""
    given = {
        "TOKEN_FILE": "" if options.token_file is None else str(options.token_file.absolute()),
        "ALLOWED_ORIGINS": ",".join(options.allowed_origins),
        "TRUSTED_PROXIES": ",".join(options.trusted_proxies),
        "ALLOW_UNAUTHENTICATED": "1" if options.allow_unauthenticated else "",
    }
    return {f"{ENV_PREFIX}{name}": value for name, value in given.items() if value}


def refuse_exposure(host: str, settings: SecuritySettings) -> None:
    """Let a server without login listen on this machine only.

    Raises:
        SettingsError: if other machines could reach it, or the token file cannot be used.
    """
    readers = Accounts.of(settings)
    if readers is None and not settings.allow_unauthenticated and not is_loopback(host):
        raise SettingsError(
            f"Other machines could reach {host}, and nobody has to log in. Give --token-file with "
            "one name:token line per reader, or say --allow-unauthenticated if something in front "
            "of the server checks who is calling."
        )


def warn_of_plain_logins(options: ServerOptions, settings: SecuritySettings) -> None:
    """Say so where tokens would cross the network as plain text; a trusted proxy may add TLS."""
    is_plain = options.certificate is None and not settings.trusted_proxies
    if is_plain and settings.asks_for_login and not is_loopback(options.host):
        logger.warning(
            "Readers log in without TLS: everybody on the network between can read their tokens. "
            "Give --certificate and --certificate-key, or put a proxy with TLS in front and name "
            "it with --trusted-proxy."
        )
