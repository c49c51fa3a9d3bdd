# SPDX-License-Identifier: Apache-2.0
"""What each role may do; every route names the action that it is."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum


class Role(str, Enum):
    """Who somebody is to the server, least first."""

    READER = "reader"
    REVIEWER = "reviewer"
    ADMINISTRATOR = "administrator"


class Action(Enum):
    """What somebody does; the value finishes the sentence "Your role may not ..."."""

    READ = "look at images, models and the server's state"
    ASK = "ask a question or segment"
    LABEL = "submit a label, decide on an answer of one's own, or add an image"
    REVIEW = "decide on other readers' answers or set the status of a label"
    SEE_OTHERS = "see what other readers asked"
    EXPORT = "take out all that is recorded of a study"
    TRAIN = "start or stop a training, or promote or roll back a model"
    DELETE = "delete images, labels or records"
    ADMINISTER = "read the server's log, reload it, or run a batch"


_READER = frozenset({Action.READ, Action.ASK, Action.LABEL})
_REVIEWER = _READER | {Action.REVIEW, Action.SEE_OTHERS, Action.EXPORT}
ALLOWED: dict[Role, frozenset[Action]] = {
    Role.READER: _READER,
    Role.REVIEWER: _REVIEWER,
    Role.ADMINISTRATOR: frozenset(Action),
}


def may(roles: Iterable[Role], action: Action) -> bool:
    """Whether one of ``roles`` allows ``action``."""
    return any(action in ALLOWED[role] for role in roles)


def least_role(action: Action) -> Role:
    """The least role that allows ``action``."""
    return next(role for role in Role if action in ALLOWED[role])
