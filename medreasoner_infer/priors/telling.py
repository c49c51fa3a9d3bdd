# SPDX-License-Identifier: Apache-2.0
"""A comparison as people read it: table, picture and files."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from medreasoner_infer.atomic import replacing
from medreasoner_infer.change import VERDICT_WORDS, Alignment, Change, SizeChange, signed
from medreasoner_infer.earlier_files import is_json_with
from medreasoner_infer.imaging import Volume
from medreasoner_infer.imaging.side_by_side import SideBySide, write_side_by_side
from medreasoner_infer.output import overlay_content, write_result
from medreasoner_infer.priors.comparing import Comparison

CHANGE_NAME, PICTURE_NAME = "change.json", "side_by_side.png"
HEADINGS = ("", "prior", "current", "change", "")
_NOT_KNOWN = "–"
_METHOD_WORDS = {
    "same_frame": "Both examinations have one frame of reference: equal patient positions.",
    "stated": "Patient positions of both are taken for equal, as was stated.",
    "rigid": "The examinations were registered by rotation and shift",
    "affine": "The examinations were registered by rotation, shift, stretch and shear",
}


@dataclass(frozen=True)
class ChangeRow:
    """One size, ready to be shown, each with its unit and uncertainty."""

    name: str
    before: str
    after: str
    change: str
    verdict: str


def change_rows(change: Change) -> list[ChangeRow]:
    """The table of a change."""
    sizes = (
        ("volume", "ml", change.volume_ml),
        ("long diameter", "mm", change.long_axis_mm),
        ("short diameter", "mm", change.short_axis_mm),
    )
    return [_row(*each) for each in sizes if each[2].before or each[2].after]


def describe_alignment(alignment: Alignment) -> str:
    """How the place in the prior was found, as a sentence."""
    told = _METHOD_WORDS[alignment.method]
    if alignment.method in ("same_frame", "stated"):
        return told
    quality = [f"turned by {alignment.rotation_deg:.1f}°", f"moved by {alignment.shift_mm:.0f} mm"]
    if alignment.similarity is not None:
        quality.append(f"mutual information {alignment.similarity:.3f} of 1 to 2")
    if alignment.overlap is not None:
        quality.append(f"{alignment.overlap:.0%} overlap")
    return f"{told} ({', '.join(quality)})."


def shown_date(date: str) -> str:
    """YYYYMMDD as YYYY-MM-DD; other texts as they are."""
    return f"{date[:4]}-{date[4:6]}-{date[6:]}" if len(date) == 8 and date.isdigit() else date


def write_comparison(
    comparison: Comparison, current: Volume, prior: Volume, folder: Path
) -> list[Path]:
    """Write both answers with masks and overlays, ``change.json`` and ``side_by_side.png``.

    Args:
        comparison: of the two.
        current: the volume of the current examination.
        prior: that of the prior one.
        folder: where to write; made if absent.

    Returns:
        The paths written.
    """
    now, then = comparison.current, comparison.prior
    paths = [
        *write_result(now, now.mask_ijk, current, folder, suffix="_current").paths,
        *write_result(then, then.mask_ijk, prior, folder, suffix="_prior").paths,
    ]
    told = folder / CHANGE_NAME
    with replacing(told, ".json") as unfinished:
        text = json.dumps(asdict(comparison.told), indent=2, ensure_ascii=False)
        unfinished.write_text(text + "\n", encoding="utf-8")
    picture = write_side_by_side(side_by_side(comparison, current, prior), folder / PICTURE_NAME)
    return [*paths, told, picture]


def is_change(file: Path) -> bool:
    """Whether a file is the ``change.json`` of a comparison.

    Raises:
        OSError: it cannot be read.
    """
    return is_json_with(file, ("change", "alignment"))


def side_by_side(comparison: Comparison, current: Volume, prior: Volume) -> SideBySide:
    """The prior on the left, the current examination on the right, the change below."""
    told = comparison.told
    now, then = comparison.current, comparison.prior
    rows = (
        f"{row.name}: {row.before} → {row.after}  {row.change}  {row.verdict}".rstrip()
        for row in change_rows(told.change)
    )
    return SideBySide(
        left=overlay_content(then, then.mask_ijk, prior),
        right=overlay_content(now, now.mask_ijk, current),
        titles=(_title("prior", told.prior_date), _title("current", told.current_date)),
        heading=told.change.statement,
        lines=(
            *rows,
            describe_alignment(told.alignment),
            *told.alignment.warnings,
            *told.change.cautions,
            "Not for clinical use.",
        ),
    )


def _title(which: str, date: str) -> str:
    return f"{which}, {shown_date(date)}" if date else f"{which}, date not known"


def _row(name: str, unit: str, size: SizeChange) -> ChangeRow:
    change = verdict = ""
    if size.difference is not None and size.uncertainty is not None:
        change = f"{signed(size.difference, 1)} ± {size.uncertainty:.1f} {unit}"
    if size.percent is not None and size.percent_uncertainty is not None:
        change += f" ({signed(size.percent, 0)} ± {size.percent_uncertainty:.0f} %)"
    if size.verdict is not None:
        verdict = VERDICT_WORDS[size.verdict]
    before, after = (
        _NOT_KNOWN if each is None else each.told(unit) for each in (size.before, size.after)
    )
    return ChangeRow(name, before, after, change, verdict)
