# SPDX-License-Identifier: Apache-2.0
"""What the gate decided, and why."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import TypeAdapter, ValidationError

from medreasoner_training.gate.config import GateConfig, without_replaced
from medreasoner_training.gate.errors import GateReportError
from medreasoner_training.gate.intervals import Comparison

Verdict = Literal["keeps", "breaks", "cannot be told"]


@dataclass(frozen=True)
class Reason:
    """One rule of the gate: whether the candidate passes it, in a sentence with the figures.

    ``verdict`` is what is known of the rule, see :func:`~medreasoner_training.gate.rules
    .verdict_of`; ``None`` in reports of gates that went by the means alone.
    """

    rule: str
    passed: bool
    sentence: str
    verdict: Verdict | None = None


@dataclass(frozen=True)
class GateReport:
    """The decision about one candidate.

    Attributes:
        candidate: name of the compared candidate.
        live: name of the model that it was compared with.
        promote: whether every rule is kept.
        reasons: one per rule, the broken ones first.
        overall: one comparison per metric that was measured.
        by_label: one per label, of the primary metric.
        former: one per metric, on held-out samples of the former site, where training replayed it.
        samples: held-out samples.
        patients: whom they are of.
        config: what was decided with.
        attempt: number of the comparison with this live model; ``None`` in reports of gates that
            asked for "not worse" and counted nothing.
        patient_sd: of the patients' mean differences of the primary metric, see
            :func:`~medreasoner_training.gate.intervals.patient_sd`.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    candidate: str
    live: str
    promote: bool
    reasons: tuple[Reason, ...]
    overall: tuple[Comparison, ...]
    by_label: tuple[Comparison, ...]
    samples: int
    patients: int
    config: GateConfig
    former: tuple[Comparison, ...] = ()
    attempt: int | None = None
    patient_sd: float | None = None

    @property
    def sentences(self) -> tuple[str, ...]:
        """The reasons in words."""
        return tuple(reason.sentence for reason in self.reasons)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> GateReport:
        """The inverse of :meth:`to_dict`; an older report keeps what it said.

        The ``margin`` of an older one becomes the gain that it asked for, which is below 0.

        Raises:
            GateReportError: if ``fields`` is no report, or contradicts itself.
        """
        try:
            report = _SCHEMA.validate_python(_in_today_s_terms(fields))
        except ValidationError as error:
            problem = error.errors()[0]["msg"]
            raise GateReportError(
                f"This is no report of the gate ({problem}); expected what to_dict gives."
            ) from error
        if report.promote != all(reason.passed for reason in report.reasons) or not report.reasons:
            raise GateReportError("The report's decision does not follow from its reasons.")
        return report

    @classmethod
    def read(cls, path: Path) -> GateReport:
        """Read a JSON file.

        Raises:
            GateReportError: if it is no report.
        """
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise GateReportError(f"{path} cannot be read as JSON ({error}).") from error
        return cls.from_dict(fields)


def _in_today_s_terms(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    config = fields.get("config") if isinstance(fields, Mapping) else None
    if not isinstance(config, Mapping) or not isinstance(config.get("margin"), (int, float)):
        return fields
    return {**fields, "config": without_replaced(config) | {"gain": -config["margin"]}}


_SCHEMA = TypeAdapter(GateReport)
