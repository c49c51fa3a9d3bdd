# SPDX-License-Identifier: Apache-2.0
"""Who is calling, and whether they may."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, HTTPException, Request

from monailabel_app.framework import DEFAULT_USER, User, get_current_user, settings
from monailabel_app.security.accounts import LoggedIn
from monailabel_app.security.roles import Action, Role, least_role, may
from monailabel_app.security.settings import SecuritySettings, security_settings


@dataclass(frozen=True)
class Caller:
    """Who sends a request; ``name`` is ``None`` where nobody has to log in."""

    name: str | None
    roles: frozenset[Role]

    def may(self, action: Action) -> bool:
        """Whether the caller's roles allow ``action``."""
        return may(self.roles, action)

    def sees(self, owner: str | None) -> bool:
        """Whether the caller may see what ``owner`` asked."""
        return self.name is None or owner == self.name or self.may(Action.SEE_OTHERS)


def current_user(request: Request) -> User:
    """What MONAI Label takes for the caller: the reader who is logged in, if any.

    It stands in for MONAI Label's own, which asks a Keycloak server or calls everybody admin.
    """
    reader = logged_in(request)
    if reader is None:
        return DEFAULT_USER
    names = [name for name, role in _roles_by_name().items() if role is reader.role]
    return DEFAULT_USER.model_copy(update={"username": reader.display_name, "roles": names})


def logged_in(request: Request) -> LoggedIn | None:
    """The reader who is logged in, ``None`` where nobody has to."""
    user = request.scope.get("user")
    return user if isinstance(user, LoggedIn) else None


def require(action: Action) -> Callable[[User], Awaitable[Caller]]:
    """A dependency that lets only callers through whose role allows ``action``."""

    async def caller(user: Annotated[User, Depends(get_current_user)]) -> Caller:
        found = caller_of(user)
        if not found.may(action):
            raise HTTPException(
                403,
                f"Your role may not {action.value}; this needs the role "
                f"{least_role(action).value!r}, which the administrator gives.",
            )
        return found

    return caller


MayRead = Annotated[Caller, Depends(require(Action.READ))]
MayAsk = Annotated[Caller, Depends(require(Action.ASK))]
MayLabel = Annotated[Caller, Depends(require(Action.LABEL))]
MayExport = Annotated[Caller, Depends(require(Action.EXPORT))]
MayDelete = Annotated[Caller, Depends(require(Action.DELETE))]
MayTrain = Annotated[Caller, Depends(require(Action.TRAIN))]
MayAdminister = Annotated[Caller, Depends(require(Action.ADMINISTER))]


async def opened(request: Request) -> None:
    """A dependency of what takes or deletes everything, which the site has to open first."""
    secured: SecuritySettings | None = getattr(request.app.state, "security", None)
    if not (secured or security_settings()).admin_routes:
        raise HTTPException(
            403,
            "This belongs to the administrator, who works on the server itself; it can be opened "
            "with MEDREASONER_ADMIN_ROUTES=1.",
        )


def client_of(request: Request, caller: Caller) -> str | None:
    """By what one client is told apart from others: the reader's name, or else the address."""
    return caller.name or (request.client.host if request.client else None)


def caller_of(user: User) -> Caller:
    """The caller as MONAI Label's login (or its lack of one) knows them."""
    roles = _roles_by_name()
    name = None if user == DEFAULT_USER else user.username
    return Caller(name, frozenset(roles[role] for role in user.roles if role in roles))


def _roles_by_name() -> dict[str, Role]:
    """Our roles by the names that MONAI Label's settings give its own."""
    return {
        settings.MONAI_LABEL_AUTH_ROLE_USER: Role.READER,
        settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR: Role.READER,
        settings.MONAI_LABEL_AUTH_ROLE_REVIEWER: Role.REVIEWER,
        settings.MONAI_LABEL_AUTH_ROLE_ADMIN: Role.ADMINISTRATOR,
    }
