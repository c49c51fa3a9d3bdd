# SPDX-License-Identifier: Apache-2.0
"""The model card of the site: which weights answer, since when, and how they do here.

It fills itself from the store of candidates and the records, as Markdown and as a page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from medreasoner_infer import __version__
from medreasoner_infer.atomic import write_durably
from medreasoner_infer.errors import MedReasonerError
from medreasoner_infer.models.registry import EMBEDDED
from medreasoner_infer.models.store import Candidate, ReasonerStore
from medreasoner_infer.reasoners.calibration import calibration_of
from medreasoner_training.markdown import table_lines
from medreasoner_training.pages import write_page
from monailabel_app.audit.answers import AuditedAnswer
from monailabel_app.audit.control import ControlChart
from monailabel_app.audit.figures import GROUPINGS, MEASURES, Group, grouped
from monailabel_app.audit.page import shown_share

CARD_NAME, CARD_PAGE = "site_card.md", "site_card.html"
NOT_FOR_CLINICAL_USE = "Not for clinical use. Not a medical device."
_FEW = 30
_LIMITS = (
    "Figures are of the answers that readers decided on and of the masks that they submitted; what "
    "nobody looked at is in none of them.",
    "Accepted means that a reader let an answer stand, not that it was proven right.",
    "Dice compares with a mask that the reader saw before drawing, so it is higher than against a "
    "blind reading.",
    f"A group of fewer than {_FEW} decided answers says little.",
)


@dataclass(frozen=True)
class Section:
    """A part of the card: sentences, then a table, either of which may be empty."""

    title: str
    sentences: tuple[str, ...] = ()
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def site_card(
    store: ReasonerStore,
    answers: Sequence[AuditedAnswer],
    charts: Mapping[str, ControlChart],
) -> tuple[Section, ...]:
    """The sections of the card.

    Args:
        store: of the site's own reasoners.
        answers: of the records, maybe none.
        charts: of the figures by weeks.
    """
    return (
        _live_section(store, answers),
        *_gate_sections(store),
        _weights_section(answers),
        *(_group_section(title, grouped(answers, of)) for title, of in _GROUPINGS.items()),
        _drift_section(charts),
        Section("Known limits", _LIMITS),
    )


def write_site_card(sections: Sequence[Section], folder: Path) -> tuple[Path, Path]:
    """Write the card as Markdown and as a page, each whole or not at all.

    Raises:
        MissingExtraError: Jinja is not installed.
    """
    text, page = folder / CARD_NAME, folder / CARD_PAGE
    write_durably(text, "\n".join(_markdown(sections)) + "\n", private=True)
    values = {"sections": sections, "notice": NOT_FOR_CLINICAL_USE, "version": __version__}
    write_page(__package__, CARD_PAGE, page, values, private=True)
    return text, page


_GROUPINGS = {title: GROUPINGS[title] for title in ("By target", "By modality")}


def _markdown(sections: Sequence[Section]) -> Iterator[str]:
    yield "# Model card of this site"
    yield ""
    yield f"**{NOT_FOR_CLINICAL_USE}** MedReasoner {__version__}."
    for section in sections:
        yield ""
        yield f"## {section.title}"
        yield ""
        yield from (f"- {_cell(sentence)}" for sentence in section.sentences)
        if section.rows:
            yield from [""] if section.sentences else []
            yield from table_lines(section.header, [tuple(map(_cell, row)) for row in section.rows])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _live_section(store: ReasonerStore, answers: Sequence[AuditedAnswer]) -> Section:
    try:
        return Section("What is live", tuple(_live_sentences(store, answers)))
    except MedReasonerError as error:
        return Section("What is live", (f"It cannot be told: {error}",))


def _live_sentences(store: ReasonerStore, answers: Sequence[AuditedAnswer]) -> Iterator[str]:
    live, switches = store.live(), [e for e in store.history() if e.action != "refused"]
    since = f" since {switches[-1].at[:16]}" if switches else ""
    if live is None:
        yield f"None of the site's own reasoners is live: {EMBEDDED} answers for `live`{since}."
        return
    yield f"{live.name}{since}."
    yield f"Licence: {live.licence}. {live.notice or ''}".strip()
    origin = live.provenance
    yield f"Tuned from {origin.parent or origin.base} by MedReasoner {origin.code_version}."
    yield _approved_masks(live, answers)
    yield _calibrated(live, answers)


def _approved_masks(live: Candidate, answers: Sequence[AuditedAnswer]) -> str:
    """Of the data set its hash is known; how many masks readers had approved by then is counted."""
    made_at = datetime.fromisoformat(live.created_at)
    before = sum(answer.masked_at is not None and answer.masked_at <= made_at for answer in answers)
    return (
        f"Made {live.created_at[:16]} from the data set with the manifest SHA-256 "
        f"{live.provenance.data_manifest_sha256}; readers had submitted {before} final masks of "
        "the answers looked through by then."
    )


def _calibrated(live: Candidate, answers: Sequence[AuditedAnswer]) -> str:
    weights = {answer.reasoner for answer in answers if answer.reasoner is not None}
    for digest in sorted(w.sha256 for w in weights if w.name == live.name and w.sha256):
        calibration = calibration_of(live.folder, digest)
        if calibration is not None:
            return f"Its confidence is calibrated: {calibration.fitted_on}."
    return "Its confidence is not calibrated, so none is shown to readers."


def _gate_sections(store: ReasonerStore) -> Iterator[Section]:
    """The report of the gate by which the live candidate was promoted, as its own card has it."""
    try:
        live, history = store.live(), store.history()
    except MedReasonerError:
        return
    if live is None:
        return
    promoted = [e for e in history if e.action == "promoted" and e.candidate == live.name]
    if promoted:
        yield Section("Why it went live", promoted[-1].reasons or ("No reason was given.",))
    figures = tuple(
        (name, f"{value:.4f}") for name, value in sorted(live.provenance.metrics.items())
    )
    if figures:
        said = ("On held-out patients of the site, candidate and then live model:",)
        yield Section("Report of the gate", said, ("figure", "value"), figures)


def _weights_section(answers: Sequence[AuditedAnswer]) -> Section:
    rows = tuple(
        (group.name, str(group.since), str(group.until), str(group.answers))
        for title in ("By reasoner", "By segmenter")
        for group in grouped(answers, GROUPINGS[title])
    )
    header = ("name and weights' SHA-256", "first week", "last week", "answers")
    return Section("Weights that answered", (), header, rows)


def _group_section(title: str, groups: Sequence[Group]) -> Section:
    header = ("", "answers", "decided", "accepted as they were", "rejected", "mean Dice (pairs)")
    rows = tuple(
        (
            group.name,
            str(group.answers),
            str(group.decided),
            shown_share(group.accepted_share),
            str(group.decisions["rejected"]),
            "–" if group.dice is None else f"{group.dice:.3f} ({group.compared})",
        )
        for group in groups
    )
    return Section(f"Acceptance and Dice {title.lower()}", (), header, rows)


def _drift_section(charts: Mapping[str, ControlChart]) -> Section:
    titles = {measure.name: measure.title for measure in MEASURES}
    sentences = [
        f"{titles[name]}: week of {point.week}, {', '.join(point.rules)}"
        for name, chart in charts.items()
        for point in chart.alarms
    ]
    unjudged = [titles[name] for name, chart in charts.items() if chart.centre is None]
    if unjudged:
        sentences.append(f"Too few weeks to judge: {'; '.join(unjudged)}.")
    return Section("Drift", tuple(sentences) or ("No week is outside its limits.",))
