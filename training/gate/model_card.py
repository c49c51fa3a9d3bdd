# SPDX-License-Identifier: Apache-2.0
"""The gate's report as a section of the candidate's model card."""

from __future__ import annotations

from medreasoner_training.gate.intervals import Comparison
from medreasoner_training.gate.report import GateReport
from medreasoner_training.markdown import table_lines

_COLUMNS = ("candidate", "live", "difference", "interval", "samples", "patients")


def model_card_section(report: GateReport) -> str:
    """Markdown: the decision, its reasons, and every comparison."""
    config = report.config
    verdict = "may replace" if report.promote else "must not replace"
    lines = [
        "## Comparison with the live model",
        "",
        f"`{report.candidate}` {verdict} `{report.live}`: {report.samples} held-out samples of "
        f"{report.patients} patients, answered by both.",
        "",
        *(f"- {'kept' if r.passed else '**broken**'}: {r.sentence}" for r in report.reasons),
        "",
        *_table(report.overall, "metric"),
        "",
        f"By label, {config.primary}; labels with fewer than {config.min_label_samples} samples "
        "are not judged.",
        "",
        *_table(report.by_label, "label"),
        "",
        *_former_section(report),
        f"Intervals: {config.confidence:.0%}, BCa bootstrap of the paired differences, "
        f"{config.resamples} draws of whole patients, seed {config.seed}. Failed answers count 0.",
    ]
    return "\n".join(lines) + "\n"


def _former_section(report: GateReport) -> list[str]:
    """Empty where no former site was measured."""
    if not report.former:
        return []
    title = "Held-out samples of the former site, which training replayed:"
    return [title, "", *_table(report.former, "metric"), ""]


def _table(comparisons: tuple[Comparison, ...], first: str) -> list[str]:
    return table_lines((first, *_COLUMNS), map(_row, comparisons))


def _row(line: Comparison) -> tuple[str, ...]:
    interval = "-" if line.low is None else f"{line.low:+.3f} to {line.high:+.3f}"
    return (
        (line.label or line.metric).replace("|", "\\|"),
        f"{line.candidate_mean:.3f}",
        f"{line.live_mean:.3f}",
        f"{line.difference:+.3f}",
        interval,
        str(line.samples),
        str(line.patients),
    )
