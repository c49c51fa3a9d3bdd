# SPDX-License-Identifier: Apache-2.0
"""What kind a picture is of, and what such pictures can show, as evidence of an absence."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import yaml

from medreasoner_infer.errors import ModelUnavailableError
from medreasoner_infer.imaging import Plane, load_volume
from medreasoner_infer.language import VocabularyError, vocabulary
from medreasoner_infer.language.kinds import (
    kind_called,
    modality_called,
    picture_kinds,
    read_kinds,
)
from medreasoner_infer.language.recognition import first_called
from medreasoner_infer.reasoners.calibration import Calibration, Logistic
from medreasoner_infer.reasoners.picture_kind import (
    KINDS_FILE,
    KindStatistics,
    kinds_of_model,
)
from medreasoner_infer.slice_choice import DisplayedSlice
from medreasoner_training.dataset.absent import absent_targets
from medreasoner_training.dataset.targets import named_target
from medreasoner_training.embedded.reasoner.real_kinds import ABSENT_EVERYWHERE_ELSE

SHA = "ab" * 32
RADIOGRAPH, TORSO, FUNDUS = "chest radiograph", "torso section", "fundus photograph"
TWO = KindStatistics(
    SHA, {RADIOGRAPH: (4.0, 0.0), FUNDUS: (0.0, 4.0)}, {RADIOGRAPH: 0.0, FUNDUS: 0.0}, "made up"
)
LIKE_A_RADIOGRAPH, LIKE_A_FUNDUS = np.array([1.0, 0.0]), np.array([0.0, 1.0])
SHOWN_BY_SOME = {("breast DCE-MR", "vertebra"), ("CT", "polyp")}
"""Not by the pictures of that measurement: views of one breast, CT without an inflated colon."""


def _benchmark() -> dict:
    text = resources.files("medreasoner_training.dataset").joinpath("benchmark.yaml").read_text()
    return yaml.safe_load(text)


def test_no_kind_can_show_what_other_tables_hold_certain_to_be_absent_from_it() -> None:
    said = [(m, name) for m, names in ABSENT_EVERYWHERE_ELSE.items() for name in names]
    said += [(m, name) for m, names in _benchmark()["absent"].items() for name in names]
    for called in {name for kind in picture_kinds().values() for name in kind.called}:
        said += [(called, name) for name in absent_targets(called, ())]
    assert len(said) > 150
    for modality, name in set(said) - SHOWN_BY_SOME:
        kind = kind_called(modality)
        assert kind is not None, modality
        assert not kind.can_show(name), (modality, name)


def test_every_kind_can_show_what_the_public_images_of_it_are_marked_with() -> None:
    checked = 0
    for entry in _benchmark()["questions"]:
        for modality in entry.get("modalities", ()):
            for label in entry["labels"]:
                target = named_target(label).target
                kind = kind_called(modality)
                if target is None:  # such as "foveal avascular zone deep"
                    continue
                assert kind is not None, modality
                assert kind.can_show(target.name), (modality, label)
                checked += 1
    assert checked > 25


@pytest.mark.parametrize(
    ("words", "code"),
    [("cardiac MR", "MR"), ("X-ray", "DX"), ("dx", "DX"), ("OCTA", "OP"), ("a drawing", "")],
)
def test_of_a_data_sets_words_no_more_is_taken_than_a_header_would_tell(words, code) -> None:
    assert modality_called(words) == code


@pytest.mark.parametrize(
    "entry",
    [
        {"modalities": ["CT"], "targets": ["flying carpet"]},
        {"modalities": ["CT"], "groups": ["furniture"]},
        {"modalities": ["DREAM"], "targets": ["liver"]},
        {"modalities": ["CT"], "groups": ["abdomen"], "targets": ["liver"]},
        {"modalities": ["CT"], "groups": ["abdomen"], "but": ["heart"]},
    ],
)
def test_a_table_of_kinds_that_names_what_there_is_not_is_refused(tmp_path, entry) -> None:
    (tmp_path / "kinds.yaml").write_text(yaml.safe_dump({"section": entry}))
    with pytest.raises(VocabularyError, match="section"):
        read_kinds(tmp_path / "kinds.yaml", vocabulary())


def test_what_no_radiograph_shows_is_less_probably_there_than_what_it_can_show() -> None:
    heart, disc = (TWO.log_odds(name, LIKE_A_RADIOGRAPH) for name in ("heart", "optic disc"))
    assert disc < heart
    assert TWO.log_odds("optic disc", LIKE_A_FUNDUS) > disc


def test_the_side_of_a_target_does_not_matter() -> None:
    assert TWO.log_odds("left lung", LIKE_A_FUNDUS) == TWO.log_odds("lung", LIKE_A_FUNDUS)


def test_a_modality_that_is_told_leaves_only_kinds_that_have_it() -> None:
    told = TWO.shares(LIKE_A_RADIOGRAPH, "OP")
    assert set(told) == {FUNDUS, "OCT angiography"}
    assert sum(told.values()) == pytest.approx(1.0)
    assert TWO.log_odds("heart", LIKE_A_RADIOGRAPH, "OP") < -3
    assert TWO.log_odds("optic disc", LIKE_A_RADIOGRAPH, "DX") < -3


@pytest.mark.parametrize("modality", ["CT", "DX", "US"])
def test_a_modality_alone_does_not_tell_the_region(modality: str) -> None:
    """An echocardiogram is no breast, however the one kind of ultrasound that was taught looks."""
    for target in ("urinary bladder", "left ventricle"):
        assert TWO.log_odds(target, LIKE_A_RADIOGRAPH, modality) > -0.1


def test_of_a_modality_without_a_kind_nothing_is_known() -> None:
    assert TWO.log_odds("heart", LIKE_A_FUNDUS, "NM") == 0.0


def test_another_thing_is_no_modality() -> None:
    assert TWO.shares(LIKE_A_FUNDUS, "OT") == TWO.shares(LIKE_A_FUNDUS)
    assert sum(TWO.shares(LIKE_A_FUNDUS).values()) == pytest.approx(1.0)


def test_kinds_are_read_as_they_were_written_and_of_other_weights_left_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert kinds_of_model(tmp_path, SHA) is None
    assert kinds_of_model(None, SHA) is None
    (tmp_path / KINDS_FILE).write_text(json.dumps(asdict(TWO)))
    assert kinds_of_model(tmp_path, SHA) == TWO
    assert not caplog.records
    assert kinds_of_model(tmp_path, "cd" * 32) is None
    assert "cdcdcdcdcdcd" in caplog.text


@pytest.mark.parametrize(
    "damaged",
    [
        "{",
        json.dumps(asdict(TWO) | {"bias": {RADIOGRAPH: 0.0}}),
        json.dumps(asdict(TWO) | {"weights": {RADIOGRAPH: [1.0], FUNDUS: [1.0, 2.0]}}),
        json.dumps(asdict(TWO) | {"weights": {"dream": [1.0]}, "bias": {"dream": 0.0}}),
    ],
)
def test_damaged_kinds_are_refused(tmp_path: Path, damaged: str) -> None:
    (tmp_path / KINDS_FILE).write_text(damaged)
    with pytest.raises(ModelUnavailableError, match="make them anew or remove"):
        kinds_of_model(tmp_path, SHA)


def test_what_is_learnt_gives_the_probabilities_of_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from medreasoner_training.embedded.reasoner.kinds import REGULARISATION, learnt

    rng = np.random.default_rng(0)
    kinds = [[TORSO, "dermoscopy", FUNDUS][n % 3] for n in range(90)]
    vision = rng.normal(size=(90, 5)) * 3 + [[n % 3] * 5 for n in range(90)]
    model = LogisticRegression(C=1 / REGULARISATION, class_weight="balanced", max_iter=2000)
    theirs = make_pipeline(StandardScaler(), model).fit(vision, kinds)
    found = learnt(kinds, vision, SHA, "")
    for row, expected in zip(vision, theirs.predict_proba(vision), strict=True):
        shares = found.shares(row)
        ours = np.array([shares[name] for name in theirs.classes_])
        assert ours / ours.sum() == pytest.approx(expected, abs=1e-3)


def test_two_kinds_are_learnt_as_well() -> None:
    from medreasoner_training.embedded.reasoner.kinds import learnt

    kinds = [TORSO, FUNDUS] * 20
    vision = np.array([[float(kind == TORSO)] for kind in kinds])
    found = learnt(kinds, vision, SHA, "")
    assert found.shares(np.array([1.0]))[TORSO] > found.shares(np.array([0.0]))[TORSO]


def test_the_first_target_of_a_trace_is_the_one_that_it_names() -> None:
    assert first_called("The question points to the left kidney, below the spleen.") == (
        "left kidney"
    )
    assert first_called("Nothing is named here.") == ""


def test_a_guess_at_the_modality_is_not_told(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("L", (32, 32), 40).save(tmp_path / "picture.png")
    for given, told in ((None, ""), ("CR", "CR")):
        volume = load_volume(tmp_path / "picture.png", modality=given)
        shown = DisplayedSlice.of(volume, Plane.ACQUIRED, 0, None, model_size=32)
        assert shown.request("Where is the liver?", "rgb").modality == told
        heard = shown.request("Where is the liver?", "rgb", modality="MR").modality
        assert heard == (told or "MR")


@pytest.mark.parametrize(("words", "told"), [("cardiac MR", "MR"), ("", "")])
def test_a_reasoner_is_told_what_the_data_set_tells_of_the_modality(tmp_path, words, told) -> None:
    from PIL import Image
    from support.evaluated import Scripted, answer_text

    from medreasoner_training.evaluation.answering import answer_cases
    from medreasoner_training.evaluation.pictures import load_case
    from medreasoner_training.evaluation.rows import EvaluationRow

    class Hearing(Scripted):
        heard: list[str]

        def _sample(self, request, count, on_text, cancelled):
            self.heard.append(request.modality)
            return super()._sample(request, count, on_text, cancelled)

    Image.new("L", (64, 64), 40).save(tmp_path / "picture.png")
    question = "Where is the heart?"
    row = EvaluationRow("1", question, tmp_path / "picture.png", None, modality=words)
    reasoner = Hearing({question: answer_text((1, 1, 9, 9), (2, 2), (4, 4))})
    reasoner.heard = []
    answer_cases(reasoner, [load_case(row, reasoner.input_size)])
    assert reasoner.heard == [told]


torch = pytest.importorskip("torch")
SIZE = 112
TARGETS = {"heart": "Where is the heart?", "optic disc": "Where is the optic disc?"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A model of random weights, and how its own vision tower sees a picture of noise."""
    from support.tiny_qwen import save_tiny_qwen

    from medreasoner_infer.reasoners import load_transformers_reasoner
    from medreasoner_infer.reasoners.picture_kind import vision_means

    folder = tmp_path_factory.mktemp("tiny")
    save_tiny_qwen(folder)
    prompt = {"system": "Mark it.", "user_template": "{query}", "input_size": SIZE}
    prompt |= {"image_encoding": "rgb", "max_reasoning_chars": 24, "targets": TARGETS}
    (folder / "prompt.json").write_text(json.dumps(prompt))
    loaded = load_transformers_reasoner(folder, device="cpu")
    images = [np.random.default_rng(n).integers(0, 256, (SIZE, SIZE, 3), np.uint8) for n in (0, 1)]
    first, second = vision_means(loaded._loaded, images)
    towards = (first - second) * 100 / float(((first - second) ** 2).sum())
    middle = float(np.dot(towards, (first + second) / 2))
    kinds = KindStatistics(
        loaded.identity.weights_sha256,
        {RADIOGRAPH: tuple(towards.tolist()), FUNDUS: (0.0,) * len(first)},
        {RADIOGRAPH: -middle, FUNDUS: 0.0},
        "two pictures of noise",
    )
    return folder, images, kinds


BY_KIND_ALONE = Logistic((0.0,) * 8, (1.0,) * 8, (0.0,) * 7 + (-1.0,), 0.0)


def _absences(tiny, image: int, with_kinds: bool, **options):
    """An answer "not present" about each of ``TARGETS``, drawn from the model's random ones."""
    from medreasoner_infer.reasoners import load_transformers_reasoner
    from medreasoner_infer.types import ReasonerRequest

    folder, images, kinds = tiny
    path = folder / KINDS_FILE
    path.unlink(missing_ok=True)
    if with_kinds:
        path.write_text(json.dumps(asdict(kinds)))
    own = json.dumps(asdict(Calibration(BY_KIND_ALONE, BY_KIND_ALONE, "")))
    (folder / "calibration.json").write_text(own)
    reasoner = load_transformers_reasoner(folder, device="cpu")
    found = []
    for query in TARGETS.values():
        request = ReasonerRequest(images[image], query, "", 16, 1.5, **options)
        answers = reasoner.answer(request)
        found.append(next(each for each in answers if each.grounding.outcome == "absent"))
    return found


def test_an_absence_is_surer_where_no_picture_of_the_kind_shows_the_target(tiny) -> None:
    heart_on_radiograph, disc_on_radiograph = _absences(tiny, 0, with_kinds=True)
    heart_on_fundus, disc_on_fundus = _absences(tiny, 1, with_kinds=True)
    assert heart_on_radiograph.confidence < heart_on_fundus.confidence
    assert disc_on_fundus.confidence < disc_on_radiograph.confidence
    assert heart_on_radiograph.confidence < disc_on_radiograph.confidence
    heart, disc = _absences(tiny, 1, with_kinds=True, modality="DX")
    assert heart.confidence < 0.1
    assert disc.confidence > 0.9


def test_without_a_file_of_kinds_nothing_is_known_and_nothing_else_changes(tiny) -> None:
    with_kinds, without = (_absences(tiny, 0, each) for each in (True, False))
    for known, unknown in zip(with_kinds, without, strict=True):
        assert unknown.evidence.kind_log_odds == 0.0
        assert known.completion == unknown.completion
        assert replace(known.evidence, kind_log_odds=0.0) == unknown.evidence


def test_a_model_whose_kinds_are_of_other_weights_answers_without_them(tiny) -> None:
    from medreasoner_infer.reasoners import load_transformers_reasoner

    folder, _, kinds = tiny
    other = replace(kinds, weights_sha256="cd" * 32)
    (folder / KINDS_FILE).write_text(json.dumps(asdict(other)))
    load_transformers_reasoner(folder, device="cpu")
    (folder / KINDS_FILE).unlink()
