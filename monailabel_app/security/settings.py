# SPDX-License-Identifier: Apache-2.0
"""What the site says about access, read from ``MEDREASONER_*`` environment variables.

Not from ``--conf``: MONAI Label writes that into its log.
"""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from monailabel_app.errors import SettingsError
from monailabel_app.security.roles import Role

ENV_PREFIX = "MEDREASONER_"
Words = Annotated[tuple[str, ...], NoDecode]


class SecuritySettings(BaseSettings):
    """Each field is an environment variable, e.g. ``MEDREASONER_TOKEN_FILE``; lists use commas.

    Attributes:
        token_file: file of ``name:token:role`` lines, one per reader, readable by its owner only;
            without a role one is a reader.
        token: the token of a single reader, where a file is not wanted.
        token_role: what that reader may do.
        allow_unauthenticated: answer callers of other machines although nobody has to log in.
        allowed_origins: web origins besides the server's own whose pages may call it.
        allowed_hosts: host names besides loopback's under which the server may be addressed while
            nobody has to log in.
        frame_ancestors: origins whose pages may show the viewer in a frame.
        admin_routes: open the routes that reload the app, read its log, run a batch, or take or
            delete images.
        max_upload_mb: body of an upload.
        max_body_kb: body of any other request.
        requests_per_minute: requests that change something, per reader, or per client address
            where nobody has to log in.
        logins_per_minute: failed logins, per client address and account name.
        trusted_proxies: addresses or networks of proxies in front of the server; only their word
            (``X-Forwarded-For``, ``X-Forwarded-Proto``) on who is calling counts.
        max_connections: connections at a time.
        connections_per_address: of them from one address that is not a trusted proxy's.
        session_hours: how long a login lasts.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, frozen=True, extra="ignore", hide_input_in_errors=True
    )

    token_file: Path | None = None
    token: SecretStr | None = None
    token_role: Role = Role.ADMINISTRATOR
    allow_unauthenticated: bool = False
    allowed_origins: Words = ()
    allowed_hosts: Words = ()
    frame_ancestors: Words = ()
    admin_routes: bool = False
    max_upload_mb: int = Field(default=2048, gt=0)
    max_body_kb: int = Field(default=1024, gt=0)
    requests_per_minute: int = Field(default=240, gt=0)
    logins_per_minute: int = Field(default=10, gt=0)
    session_hours: float = Field(default=12.0, gt=0)
    trusted_proxies: Words = ()
    max_connections: int = Field(default=1024, gt=0)
    connections_per_address: int = Field(default=256, gt=0)

    @field_validator(
        "allowed_origins", "allowed_hosts", "frame_ancestors", "trusted_proxies", mode="before"
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return tuple(word.strip().rstrip("/") for word in value.split(",") if word.strip())

    @field_validator("allowed_origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            scheme, found, place = origin.partition("://")
            if scheme not in ("http", "https") or not found or not place or "/" in place:
                raise ValueError("expected origins such as https://viewer.hospital.example")
        return origins

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return tuple(str(ip_network(network)) for network in networks)
        except ValueError:
            raise ValueError(
                "expected addresses or networks such as 10.0.0.5 or 10.0.0.0/24"
            ) from None

    @property
    def asks_for_login(self) -> bool:
        """Whether readers have tokens."""
        return self.token_file is not None or self.token is not None


def security_settings() -> SecuritySettings:
    """Read the environment.

    Raises:
        SettingsError: if a variable cannot be used; its value is not repeated.
    """
    try:
        return SecuritySettings()
    except ValidationError as error:
        faults = "; ".join(
            f"{ENV_PREFIX}{str(fault['loc'][0]).upper()}: {fault['msg']}"
            for fault in error.errors(include_input=False, include_url=False)
        )
        raise SettingsError(f"The environment cannot be used: {faults}.") from None
