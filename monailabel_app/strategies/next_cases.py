# SPDX-License-Identifier: Apache-2.0
"""Offering the next image: each reader another one, and not the same patient twice in a row."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from medreasoner_training.next_case import DESCRIPTIONS, pick, ranked
from medreasoner_training.next_case import Strategy as Order
from monailabel_app.framework import Datastore, Strategy
from monailabel_app.site.opening import Site
from monailabel_app.strategies.gathering import gather
from monailabel_app.strategies.looking import Looking
from monailabel_app.strategies.sorting import MODALITY, STUDY_UID
from monailabel_app.studies.pacs import PacsStudies

_UNKNOWN = "UNK"


@dataclass(frozen=True)
class Offer:
    """An image for a reader; ``reason`` is one sentence of codes and figures."""

    image_id: str
    strategy: Order
    reason: str


class NextCases:
    """Offers images of a site by the strategies of :mod:`medreasoner_training.next_case`.

    What was offered since the server was started counts as being worked at, whoever got it: it is
    offered again only when every image was.

    Args:
        site: whose images.
        is_busy: whether readers' questions are worked at.
    """

    def __init__(self, site: Site, is_busy: Callable[[], bool]) -> None:
        self._site = site
        self.looking = Looking(site, is_busy)
        self._offering = threading.Lock()
        self._offered: dict[str, int] = {}
        self._last_patients: dict[str | None, str] = {}

    def offer(self, strategy: Order, reader: str | None = None) -> Offer | None:
        """The next image for a reader; ``None`` where none waits.

        Args:
            strategy: by what it is chosen.
            reader: the account, where the server asks for one.

        Raises:
            as :func:`.gathering.gather`.
        """
        known = gather(self._site, self.looking)
        with self._offering:
            self._offered = {c.image_id: self._offered.get(c.image_id, 0) for c in known.waiting}
            least = min(self._offered.values(), default=0)
            fresh = [c for c in known.waiting if self._offered[c.image_id] == least]
            away = [c for c in known.waiting if self._offered[c.image_id] > least]
            order = ranked(strategy, fresh, [*known.approved, *away])
            chosen = pick(order, self._offered_last(reader))
            if chosen is not None:
                self._offered[chosen.case.image_id] += 1
                self._last_patients |= dict.fromkeys((None, reader), chosen.case.patient)
        self.looking.go_on(known.wanted)
        if chosen is None:
            return None
        return Offer(chosen.case.image_id, strategy, chosen.reason)

    def info(self, image_id: str) -> dict[str, Any]:
        """What viewers are told of an image, under MONAI Label's keys.

        Raises:
            PacsUnreachableError: of a series nothing is known here, and the server does not answer.
        """
        studies = self._site.studies
        info: dict[str, Any] = studies.get_image_info(image_id)
        if info or not isinstance(studies, PacsStudies):
            return info
        listed = self.looking.listed(image_id)
        if listed is None:
            told = studies.series_info(image_id)
            return {key: value for key, value in told.items() if value != _UNKNOWN}
        told = {STUDY_UID: listed.study_uid, MODALITY: listed.sorts.modality}
        return {key: value for key, value in told.items() if value}

    def _offered_last(self, reader: str | None) -> set[str]:
        """Patients of the last offer of all, and of the last one to this reader."""
        return {p for key in (None, reader) if (p := self._last_patients.get(key)) is not None}


class NextCaseStrategy(Strategy):
    """One of them, as MONAI Label lists and calls it."""

    def __init__(self, cases: NextCases, order: Order) -> None:
        super().__init__(DESCRIPTIONS[order])
        self._cases = cases
        self._order = order

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """As MONAI Label calls a strategy."""
        offer = self._cases.offer(self._order)
        return None if offer is None else {"id": offer.image_id}


def strategies_of(cases: NextCases) -> dict[str, Strategy]:
    """All of them by name."""
    return {order.value: NextCaseStrategy(cases, order) for order in Order}
