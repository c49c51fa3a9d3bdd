# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk

from medreasoner_infer.types import SliceImage, SlicePrompt
from medreasoner_training.embedded.end_to_end.cases import RealOrgan
from medreasoner_training.embedded.end_to_end.evaluate import score_section, summarise
from medreasoner_training.embedded.end_to_end.figures import figures
from medreasoner_training.embedded.end_to_end.search import search_scores, summarise_search
from medreasoner_training.embedded.marked_text import END, begin_marker, write_marked
from medreasoner_training.embedded.phantom.anatomy import Label
from medreasoner_training.embedded.segmenter.gallery import JudgedSection


def judged(truth: np.ndarray, answer: np.ndarray, dice: float) -> JudgedSection:
    image = SliceImage(np.zeros(truth.shape, np.uint8), (1.0, 1.0), "test")
    return JudgedSection(
        "liver", image, SlicePrompt((0.0, 0.0, 8.0, 8.0), ((4.0, 4.0),), (1,)), truth, answer, dice
    )


def test_ellipse_in_the_box_of_a_square_target_covers_a_quarter_pi_of_it():
    truth = np.ones((8, 8), bool)
    score = score_section(judged(truth, truth, 1.0), says_present=True)
    inside = 52  # pixels of 8 x 8 whose centres lie within the inscribed circle
    assert score.dice == 1.0
    assert score.ellipse_dice == pytest.approx(2 * inside / (inside + 64))


def test_absent_target_has_no_dice():
    score = score_section(judged(np.zeros((8, 8), bool), np.zeros((8, 8), bool), 1.0), False)
    assert (score.present, score.dice, score.ellipse_dice) == (False, None, None)


def test_figures_name_each_mean_with_its_number():
    truth = np.ones((8, 8), bool)
    scores = [score_section(judged(truth, truth, value), True) for value in (0.5, 1.0)]
    report = {"real_ct": summarise(scores), "reasoner_sha256": "aa", "segmenter_sha256": "bb"}
    text = figures(report)
    assert "| Dice, question to mask | 0.750 (0.500 to 1.000, n=2) |" in text
    assert "| liver | 0.750 (0.500 to 1.000, n=2) |" in text
    assert "`sha256:aa`" in text
    assert "`sha256:bb`" in text


def test_only_the_text_between_the_markers_is_replaced(tmp_path):
    path = tmp_path / "card.md"
    path.write_text(f"before\n{begin_marker('m')}\nold\n{END}\nafter\n", encoding="utf-8")
    write_marked(path, "m", "new")
    assert path.read_text("utf-8") == f"before\n{begin_marker('m')}\n\nnew\n{END}\nafter\n"


def test_text_without_markers_is_refused(tmp_path):
    path = tmp_path / "card.md"
    path.write_text("nothing\n", encoding="utf-8")
    with pytest.raises(ValueError, match="must hold the lines"):
        write_marked(path, "m", "new")
    assert path.read_text("utf-8") == "nothing\n"


def test_real_volumes_lie_where_the_files_say(shared_data):
    from medreasoner_training.embedded.reasoner.real_ct import VOLUMES, labelled_volumes

    folder = shared_data / "totalsegmentator"
    ct = next(labelled_volumes(folder))
    image = sitk.ReadImage(str(folder / VOLUMES[0][0]))
    column, row, k = 30, 40, 50
    point = (ct.ijk_to_lps @ (column, row, k, 1))[:3]
    assert image[image.TransformPhysicalPointToIndex(point.tolist())] == ct.hu[k, row, column]


class AnswersOn:
    """A pipeline that answers every question on one slice, with one mask."""

    def __init__(self, index: int, mask_ijk: np.ndarray) -> None:
        self.index, self.mask_ijk = index, mask_ijk

    def ask(self, volume, request):
        assert request.selection.index is None
        return SimpleNamespace(slice=SimpleNamespace(index=self.index), mask_ijk=self.mask_ijk)


@pytest.mark.parametrize(
    ("index", "share", "overlap"), [(2, 1.0, 2 / 3), (1, 0.5, 1.0), (0, 0.0, 0.0)]
)
def test_a_search_is_scored_by_what_the_chosen_slice_shows(index, share, overlap):
    truth = np.zeros((3, 10, 12), bool)
    truth[1, :5, :10] = truth[2, :10, :10] = True
    mask_ijk = np.zeros((12, 10, 3), np.uint8)
    mask_ijk[:10, :5] = 1
    organ = RealOrgan(None, Label.LIVER, truth)
    scores = search_scores(AnswersOn(index, mask_ijk), [organ])
    assert len(scores) == 2
    assert [score.section_share for score in scores] == [share] * 2
    assert [score.dice for score in scores] == pytest.approx([overlap] * 2)
    assert summarise_search(scores)["shows_target"]["mean"] == float(share > 0)


def test_an_organ_without_a_fair_section_is_not_searched_for():
    truth = np.zeros((3, 10, 10), bool)
    truth[1, :7, :7] = True
    assert not search_scores(AnswersOn(1, np.zeros(1)), [RealOrgan(None, Label.LIVER, truth)])
