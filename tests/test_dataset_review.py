# SPDX-License-Identifier: Apache-2.0
"""A review goes out and comes in unchanged, harmless in a spreadsheet; so do conversions."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("pyarrow")
pytest.importorskip("datasets")
pytest.importorskip("jinja2")

from support import umrg
from support.labelled_images import LIVER, labelled_folder
from support.viewer import FLAGS

from medreasoner_training.dataset import (
    Build,
    ConversionError,
    ReviewError,
    Templates,
    Wanted,
    build_dataset,
    check_dataset,
    convert_dataset,
    read_pairs,
)
from medreasoner_training.dataset.review import (
    Decision,
    apply_review,
    as_cell,
    from_cell,
    read_decisions,
    write_review_page,
    write_review_table,
)
from medreasoner_training.dataset.review.page import outline_path
from medreasoner_training.evaluation import EvaluationRow, open_rows
from medreasoner_training.evaluation.pictures import load_case

# Whatever a question can hold; no NUL, which CSV has no way to write.
TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"))
FORMULAE = st.builds(lambda mark, text: mark + text, st.sampled_from("=+-@'\t\r\n＝"), TEXTS)


def row_of(question: str, number: int = 0, **told: str) -> EvaluationRow:
    return EvaluationRow(f"{number:03d}", question, b"", b"", None, **told)


@given(TEXTS | FORMULAE)
def test_a_cell_begins_no_formula_and_is_read_as_it_was(text) -> None:
    cell = as_cell(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝"))
    assert from_cell(cell) == text


@given(st.lists(st.tuples(TEXTS | FORMULAE, TEXTS | FORMULAE), max_size=4))
def test_a_table_of_any_questions_makes_the_round_trip(tmp_path_factory, texts) -> None:
    path = tmp_path_factory.mktemp("review") / "review.csv"
    rows = [row_of(q, n, category=c) for n, (q, c) in enumerate(texts)]
    assert write_review_table(rows, path) == len(rows)
    assert [d.question for d in read_decisions(path)] == [row.question for row in rows]
    with path.open(encoding="utf-8-sig", newline="") as file:
        cells = [cell for line in csv.reader(file) for cell in line]
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,question\n1,What?\n", "has no column decision"),
        ("id,decision,question\n1,maybe,What?\n", "decides 'maybe'"),
        (
            "id,decision,question\n1,accept,What?\n1,reject,What?\n",
            "decides on a row of the data set again",
        ),
        ('id,decision,question\n1,accept,"What?\n', "cannot be read as a table"),
        ("id,decision,question\n1,accept\n", "Row 1 of the review has no question"),
    ],
)
def test_a_table_that_means_nothing_is_refused(tmp_path, text, said) -> None:
    path = tmp_path / "review.csv"
    path.write_text(text)
    with pytest.raises(ReviewError, match=said):
        read_decisions(path)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    base = tmp_path_factory.mktemp("review_set")
    images = read_pairs(labelled_folder(base / "site"))
    build_dataset(Build(images, Templates(), base / "set", Wanted(2, 1, 1)))
    return base / "set"


def all_of(data: Path) -> list[EvaluationRow]:
    source = open_rows(str(data), split="all")
    return list(source.read(range(source.count)))


def test_decisions_leave_out_keep_and_edit_rows(built, tmp_path) -> None:
    rows = all_of(built)
    liver = [row for row in rows if row.category == "liver" and row.kind == "implicit"]
    first, second, third = liver[:3]
    decisions = [
        Decision(first.id, "reject", first.question),
        Decision(second.id, "accept", "Which organ would be biopsied in a fibrosis?"),
        Decision(third.id, "accept", "Where is the liver?"),
    ]
    done = apply_review(open_rows(str(built), split="all"), decisions, tmp_path / "reviewed")
    assert (done.kept, done.edited, done.rejected) == (len(rows) - 2, 1, 1)
    assert done.refused == {"an implicit question names its target": 1}
    left = {row.id: row for row in all_of(tmp_path / "reviewed")}
    assert first.id not in left
    assert third.id not in left
    assert left[second.id].question == "Which organ would be biopsied in a fibrosis?"
    other = next(row for row in rows if row.id not in (first.id, second.id, third.id))
    assert left[other.id] is not other
    assert told(left[other.id]) == told(other)


def told(row: EvaluationRow) -> dict:
    names = ("id", "question", "category", "super_category", "modality", "patient", "licence",
             "split", "may_train", "kind", "language", "reasoning")  # fmt: skip
    case = load_case(row, 28)
    truth = None if case.truth is None else (
        tuple(np.floor(case.truth.bbox_xyxy_px)), tuple(np.floor(np.ravel(case.truth.points_xy_px)))
    )  # fmt: skip
    mask = None if case.mask is None else case.mask.tobytes()
    return {name: getattr(row, name) for name in names} | {
        "truth": truth, "mask": mask, "image": case.shown.image.pixels.mean(),
    }  # fmt: skip


def test_undecided_rows_can_be_dropped_and_strange_ones_are_refused(built, tmp_path) -> None:
    source, rows = open_rows(str(built), split="all"), all_of(built)
    decisions = [Decision(rows[0].id, "accept", rows[0].question)]
    done = apply_review(source, decisions, tmp_path / "one", undecided="drop")
    assert (done.kept, done.undecided) == (1, len(rows) - 1)
    with pytest.raises(ReviewError, match="1 rows of the review are not in this data set"):
        apply_review(source, [Decision("x", "accept", "?")], tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("way", [("manifest", "umrg"), ("pictures", "umrg"), ("umrg", "pictures")])
def test_conversions_keep_what_every_row_tells(built, tmp_path, way) -> None:
    data = built
    for number, to in enumerate(way):
        out = tmp_path / f"{number}_{to}"
        convert_dataset(open_rows(str(data), split="all"), to, out)
        data = out
    before, after = ({row.id: told(row) for row in all_of(each)} for each in (built, data))
    assert after == before
    assert check_dataset(open_rows(str(data), split="all")).faults == ()


def test_a_manifest_lists_each_pair_once(built, tmp_path) -> None:
    convert_dataset(open_rows(str(built), split="all"), "manifest", tmp_path / "set")
    images = read_pairs(tmp_path / "set")
    assert len(images.images) == 6
    assert sorted(p.label for image in images.images for p in image.pairs) == sorted(
        3 * ["kidney", "liver", "left lung", "right lung"]
    )


def test_a_box_that_the_mask_does_not_tell_would_be_lost(tmp_path) -> None:
    umrg.write(tmp_path / "test.parquet", [umrg.row(0, (10, 20, 50, 40), "What?", "liver")])
    source = open_rows(str(tmp_path / "test.parquet"), split="all")
    with pytest.raises(ConversionError, match="1 rows: the stored box or key points are not those"):
        convert_dataset(source, "pictures", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    convert_dataset(source, "pictures", tmp_path / "out", allow_loss=True)
    (row,) = all_of(tmp_path / "out")
    assert load_case(row, 28).truth.bbox_xyxy_px == (10, 20, 50, 40)


def test_a_target_without_a_mask_would_be_lost(tmp_path) -> None:
    row = umrg.row(0, (10, 20, 50, 40), "What?", "liver")
    umrg.write(tmp_path / "test.parquet", [row | {"masks": []}])
    with pytest.raises(ConversionError, match="no mask, so that its place would be lost"):
        convert_dataset(open_rows(str(tmp_path), split="all"), "manifest", tmp_path / "out")


def test_an_outline_runs_along_the_edges_of_the_pixels() -> None:
    mask = np.zeros((4, 5), bool)
    mask[1:3, 2:4] = True
    assert sorted(outline_path(mask).split("M")[1:]) == ["2 1h2", "2 1v2", "2 3h2", "4 1v2"]
    length = sum(
        int(part.split("h")[-1].split("v")[-1]) for part in outline_path(LIVER).split("M")[1:]
    )
    padded = np.pad(LIVER, 1).astype(int)
    assert length == abs(np.diff(padded, axis=0)).sum() + abs(np.diff(padded, axis=1)).sum()


@pytest.mark.slow
def test_the_page_decides_by_keys_and_its_table_is_read_back(built, tmp_path) -> None:
    api = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("Chromium is absent; run scripts/setup_browser.sh")
    rows = [
        replace(row, question="=1+1, </script><b>") if n == 1 else row
        for n, row in enumerate(all_of(built)[:4])
    ]
    page_path = tmp_path / "review.html"
    assert write_review_page("set <1>", rows, page_path) == 4
    with api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=program, args=FLAGS)
        page = browser.new_page()
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on(
            "request", lambda request: request.url.startswith("http") and faults.append(request.url)
        )
        page.goto(page_path.as_uri())
        page.keyboard.press("a")
        assert page.input_value("#question") == "=1+1, </script><b>"
        page.keyboard.press("r")
        page.fill("#question", "Which organ, 'it', is it?")
        page.keyboard.press("Escape")
        page.keyboard.press("a")
        with page.expect_download() as download:
            page.keyboard.press("d")
        download.value.save_as(tmp_path / "review.csv")
        browser.close()
    assert faults == []
    found = read_decisions(tmp_path / "review.csv")
    assert [(d.id, d.choice) for d in found] == [
        (row.id, choice)
        for row, choice in zip(rows, ("accept", "reject", "accept", ""), strict=True)
    ]
    assert [d.question for d in found] == [
        rows[0].question, "=1+1, </script><b>", "Which organ, 'it', is it?", rows[3].question,
    ]  # fmt: skip
    assert "'=1+1" in (tmp_path / "review.csv").read_text(encoding="utf-8-sig")
