# SPDX-License-Identifier: Apache-2.0
"""The address of a database server: what it may say, and that it holds no password."""

from __future__ import annotations

from urllib.parse import SplitResult, parse_qsl, urlsplit

from monailabel_app.errors import SettingsError

SCHEME = "postgresql+psycopg"
EXAMPLE = f"{SCHEME}://medreasoner@db.example/medreasoner"
# Of libpq's parameters those that name files and hosts, none that is a secret itself.
_PARAMETERS = frozenset(
    {
        "channel_binding", "gssencmode", "host", "krbsrvname", "passfile", "port", "service",
        "sslcert", "sslcrl", "sslkey", "sslmode", "sslrootcert", "target_session_attrs",
    }
)  # fmt: skip


def checked_database(text: str) -> str:
    """The address of a PostgreSQL database, as it was given.

    Raises:
        SettingsError: it is none, or holds a password; it is not repeated.
    """
    parts = _split(text)
    if parts is None or parts.scheme != SCHEME or not parts.path.strip("/"):
        raise SettingsError(
            f"The address of the records' database cannot be used; expected e.g. {EXAMPLE}."
        )
    names = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    if parts.password is not None or "password" in names:
        raise SettingsError(
            "The address of the records' database holds a password, which command lines and logs "
            "would show. Leave it out, and give it as PGPASSWORD or in a file that PGPASSFILE "
            "names."
        )
    if unknown := names - _PARAMETERS:
        raise SettingsError(
            f"The address of the records' database has {len(unknown)} parameter(s) that are not "
            f"taken; expected none, or of {', '.join(sorted(_PARAMETERS))}."
        )
    return text


def shown_database(text: str) -> str:
    """Server and name of a database, without account and parameters."""
    parts = _split(text)
    if parts is None:
        return "a database whose address cannot be read"
    host = parts.netloc.rpartition("@")[2] or "this machine"
    return f"{parts.path.strip('/')} on {host}"


def _split(text: str) -> SplitResult | None:
    try:
        parts = urlsplit(text.strip())
        _ = parts.port
    except ValueError:
        return None
    # A password with a raw "/", "?" or "#" ends the host early, and the "@" stands in what follows.
    return None if any("@" in part for part in parts[2:]) or parts.fragment else parts
