# SPDX-License-Identifier: Apache-2.0
"""Lists of questions as people make them, and what a mistake in one is told as."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("monailabel")

from monailabel_app.batch.errors import QuestionListError
from monailabel_app.batch.pace import paced
from monailabel_app.batch.questions import read_questions


def listed(tmp_path: Path, content: str | bytes, name: str = "list.csv"):
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_questions(path)


EXCEL = "Question;Image;Slice;Body Part;\r\nWo ist die Leber, größer?;ct1;4;abdomen;\r\n;;;;\r\n"


@pytest.mark.parametrize(
    "content",
    [
        EXCEL.encode(),
        EXCEL.encode("utf-8-sig"),
        EXCEL.encode("utf-16"),
        b"sep=;\r\n" + EXCEL.encode(),
        EXCEL.replace(";", "\t").encode(),
        EXCEL.replace("\r\n", "\n").encode(),
        EXCEL.replace("Leber, größer?", '"Leber, größer?"').replace("Wo ist die ", "").encode(),
        b'question,image,slice,body_part\n"Wo ist die Leber, gr\xc3\xb6\xc3\x9fer?",ct1,4,ABDOMEN',
    ],
    ids=["semicolons", "BOM", "UTF-16", "sep=", "tabs", "LF", "quotes", "commas"],
)
def test_a_spreadsheet_s_file_is_read_whatever_it_separates_with(tmp_path, content) -> None:
    (question,) = listed(tmp_path, content)
    assert question.text.endswith("Leber, größer?")
    assert (question.image, question.params.selection.index) == ("ct1", 4)
    assert (question.row, question.body_part, question.modality) == (1, "ABDOMEN", None)


def test_yaml_holds_questions_alone_or_with_columns(tmp_path) -> None:
    text = "- Where is the liver?\n- {query: The cyst, slice: 3, propagate: true, modality: ct}\n"
    first, second = listed(tmp_path, text, "list.yaml")
    assert (first.text, first.params.selection.index) == ("Where is the liver?", None)
    assert (second.params.selection.index, second.params.propagate) == (3, True)
    assert (second.row, second.modality) == (2, "CT")


def test_a_row_that_names_several_targets_is_a_question_for_each(tmp_path) -> None:
    found = listed(tmp_path, "question\nSegment liver and spleen\n")
    assert [question.text for question in found] == ["Segment liver", "Segment spleen"]
    assert {question.row for question in found} == {1}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "no column 'question'"),
        ("question\n", "holds no question"),
        ("question;image\n;\n", "holds no question"),
        ("image\nct1\n", "no column 'question'"),
        ("question,colour\nWhere?,red\n", "column 'colour', which is not known"),
        ("question,query\nWhere?,Where?\n", "column 'question' twice"),
        ("question,image\n,ct1\n", "Row 1 of list.csv: the column 'question' is empty"),
        ("question,slice\nWhere?,second\n", "Row 1 of list.csv: .*slice"),
        ("question,plane\nWhere?,tilted\n", "Row 1 of list.csv: .*plane"),
        ("question,modality\nWhere?,CTT\n", "'CTT' is no modality"),
        ("question,image\nThe liver, please?,ct1\n", "more cells than the head"),
        ('question\n"Where?\n', "cannot be read as CSV"),
        ("question\nGröße?\n".encode("cp1252"), "not written in UTF-8"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_row(tmp_path, content, said) -> None:
    with pytest.raises(QuestionListError, match=said):
        listed(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("question: Where?", "no list of questions"),
        ("- [Where]", "Row 1 of list.yml is neither"),
        ("- {question: Where, colour: red}", "column 'colour'"),
        ("- {question: [", "cannot be read as YAML at line 1"),
        ("", "no list of questions"),
    ],
)
def test_a_mistake_in_yaml_is_told_likewise(tmp_path, content, said) -> None:
    with pytest.raises(QuestionListError, match=said):
        listed(tmp_path, content, "list.yml")


def test_what_is_no_list_at_all_is_refused(tmp_path) -> None:
    with pytest.raises(QuestionListError, match="There is no list"):
        read_questions(tmp_path / "list.csv")
    with pytest.raises(QuestionListError, match="no list of questions; expected a name"):
        listed(tmp_path, "question\nWhere?\n", "list.xlsx")


def test_the_same_is_asked_by_rows_of_the_same_words_and_slice_only(tmp_path) -> None:
    head = "question,slice,image,modality\n"
    rows = ["Where?,1,,", "Where?,1,ct1,", "Where?,2,,", "Where ?,1,,", "Where?,1,,CT"]
    first, of_image, *others = listed(tmp_path, head + "\n".join(rows))
    assert first.key == of_image.key
    assert len({question.key for question in (first, *others)}) == 4


class Clock:
    """Time that passes only by waiting, and by the work between two questions."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(
    ("costs", "work_s", "starts"),
    [
        ([1, 1, 1, 1], 0.0, [0, 5, 10, 15]),
        ([1, 1, 1, 1], 2.0, [0, 5, 10, 15]),
        ([1, 1, 1], 7.0, [0, 7, 14]),
        ([3, 1, 2, 1], 1.0, [0, 15, 20, 30]),
    ],
    ids=["idle", "quick", "slower than the rate", "several questions at once"],
)
def test_no_more_than_twelve_questions_a_minute_are_asked(costs, work_s, starts) -> None:
    clock, begun = Clock(), []
    for _ in paced(costs, 12, lambda cost: cost, clock, clock.wait):
        begun.append(clock.now - 100)
        clock.wait(work_s)
    assert begun == pytest.approx(starts)


def test_a_pause_is_not_made_up_for_by_a_burst() -> None:
    clock, begun = Clock(), []
    for number in paced(range(4), 60, clock=clock, sleep=clock.wait):
        begun.append(clock.now - 100)
        clock.wait(30 if number == 0 else 0)
    assert begun == [0, 30, 31, 32]


def test_without_a_rate_nobody_waits() -> None:
    def never(seconds: float) -> None:
        raise AssertionError(seconds)

    assert list(paced("abc", None, sleep=never)) == ["a", "b", "c"]
