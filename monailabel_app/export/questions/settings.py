# SPDX-License-Identifier: Apache-2.0
"""Which language model writes questions, and that it stands at the site."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from medreasoner_infer.addresses import is_usable_address
from medreasoner_infer.errors import InputError, MissingExtraError, ServiceError
from monailabel_app.security.exposure import is_loopback

SETTINGS_FILE = "query_writer.yaml"


class QueryWriterSettingsError(InputError):
    """A setting of the query writer means nothing, or its address is not at the site."""


class QueryWriterUnreachableError(ServiceError):
    """The query writer's server does not answer as an OpenAI-compatible one does."""


@dataclass(frozen=True)
class QueryWriterSettings:
    """The keys of ``query_writer.yaml`` in the folder of the app's records.

    Attributes:
        url: of an OpenAI-compatible server, e.g. ``http://localhost:8000/v1``.
        model: as the server names it.
        questions: wanted for each label; the last quarter is kept for validation.
        attempts: requests at most to get them.
        timeout_s: of a request.
        allow_public: the address may lie outside the site's network.

    Raises:
        QueryWriterSettingsError: naming the key.
    """

    url: str
    model: str
    questions: int = 8
    attempts: int = 3
    timeout_s: float = 120.0
    allow_public: bool = False

    def __post_init__(self) -> None:
        for ok, name, expected in (
            (is_usable_address(self.url), "url", "an http or https address"),
            (bool(self.model.strip()), "model", "a name that the server lists"),
            (2 <= self.questions <= 32, "questions", "2 to 32: training and validation differ"),
            (1 <= self.attempts <= 10, "attempts", "1 to 10"),
            (self.timeout_s > 0, "timeout_s", "seconds above 0"),
        ):
            if not ok:
                raise QueryWriterSettingsError(
                    f"The query writer's {name} is {getattr(self, name)!r}; expected {expected}."
                )


def writer_settings(records: Path) -> QueryWriterSettings | None:
    """What ``query_writer.yaml`` in the folder of the app's records says; ``None`` without one.

    Raises:
        QueryWriterSettingsError: the file cannot be used.
        MissingExtraError: the package that reads it is not installed.
    """
    path = records / SETTINGS_FILE
    if not path.is_file():
        return None
    try:
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException
    except ModuleNotFoundError as error:
        raise MissingExtraError("omegaconf", "train") from error
    import yaml

    schema = OmegaConf.structured(QueryWriterSettings)
    OmegaConf.set_readonly(schema, None)
    try:
        written = OmegaConf.to_object(OmegaConf.merge(schema, OmegaConf.load(path)))
        return cast("QueryWriterSettings", written)
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        problem = str(error).partition("\n")[0]
        raise QueryWriterSettingsError(
            f"{SETTINGS_FILE} cannot be used ({problem}); expected keys such as url and model."
        ) from error


def require_at_site(settings: QueryWriterSettings) -> None:
    """Refuse a server that every address of whose name is not loopback or private (RFC 1918, 4193).

    Raises:
        QueryWriterSettingsError: one of them is public.
        QueryWriterUnreachableError: the name has no address.
    """
    host = urlsplit(settings.url).hostname or ""
    if settings.allow_public or is_loopback(host):
        return
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError) as error:
        raise QueryWriterUnreachableError(
            f"The query writer's host {host!r} has no address; check the query writer's url."
        ) from error
    public = sorted(
        address for address in found if not ip_address(address.partition("%")[0]).is_private
    )
    if public:
        raise QueryWriterSettingsError(
            f"The query writer's host {host!r} has the public address {public[0]}; expected one in "
            "the site's own network. Names of labels would leave the site: allow_public permits it."
        )
