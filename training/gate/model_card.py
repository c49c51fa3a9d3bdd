# SPDX-License-Identifier: Apache-2.0
"""The gate's report as a section of the candidate's model card."""

from __future__ import annotations

from medreasoner_training.gate.intervals import Comparison
from medreasoner_training.gate.levels import attempt_level
from medreasoner_training.gate.report import GateReport, Reason
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
        *(f"- {_marked(reason)}: {reason.sentence}" for reason in report.reasons),
        "",
        *_table(report.overall, "metric"),
        "",
        f"By label, {config.primary}; labels with fewer than {config.min_label_samples} samples "
        "are not judged.",
        "",
        *_table(report.by_label, "label"),
        "",
        *_former_section(report),
        f"Intervals: {_confidence(report)}, BCa bootstrap of the paired differences, "
        f"{config.resamples} draws of whole patients or more, seed {config.seed}. Failed answers "
        "count 0.",
    ]
    return "\n".join(lines) + "\n"


def _marked(reason: Reason) -> str:
    if not reason.passed:
        return "**broken**"
    return "cannot be told" if reason.verdict == "cannot be told" else "kept"


def _confidence(report: GateReport) -> str:
    config = report.config
    if report.attempt is None:
        return f"{config.confidence:.0%}"
    primary = 1 - 2 * attempt_level(config, report.attempt)
    return f"{primary:.2%} of {config.primary}, {config.guard_confidence:.0%} of all others"


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
