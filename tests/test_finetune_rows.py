# SPDX-License-Identifier: Apache-2.0
"""Training rows ask exactly what the served reasoner is asked."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("datasets")

import medreasoner_infer
from medreasoner_infer.answer import parse_answer
from medreasoner_infer.imaging import Plane
from medreasoner_infer.reasoners.coordinates import AnswerFrame
from medreasoner_infer.reasoners.image_encoding import prepare_image
from medreasoner_infer.reasoners.prompts import REASONING_PROMPT, PromptTemplate, load_prompt_file
from medreasoner_infer.types import ReasonerRequest
from medreasoner_training.finetune.errors import (
    ImageSizeError,
    NoValidationError,
    TooFewSamplesError,
)
from medreasoner_training.finetune.raw_samples import read_sample, scale_mask
from medreasoner_training.finetune.replay import (
    former_rows,
    phantom_rows,
    phantom_sample,
    with_replay,
)
from medreasoner_training.finetune.rows import RowMaker, training_rows
from medreasoner_training.finetune.settings import DataSettings, ImageSizes
from medreasoner_training.finetune.traces import completion_of
from medreasoner_training.rewards import GroundTruth, score
from medreasoner_training.samples import (
    TRAIN,
    VALIDATION,
    Augmentation,
    LeftOut,
    QuerySource,
    Question,
    Sample,
    writing_dataset,
)
from medreasoner_training.samples.schema import features, to_row

EMBEDDED = Path(medreasoner_infer.__file__).parent / "embedded" / "reasoner"
SIZE = 128
FRAME = AnswerFrame(SIZE)
TRACE = "Bright, on the left."


def make_sample(number=0, present=True, size=SIZE, trace=TRACE) -> Sample:
    rng = np.random.default_rng(number)
    mask = np.zeros((size, size), bool)
    mask[40:80, 20:60] = present
    grey = np.where(mask, 180, 60) + rng.integers(0, 40, mask.shape)
    return Sample(
        image=np.repeat(grey[..., None], 3, axis=2).astype(np.uint8),
        mask=mask,
        question=Question(f"What was drawn around by hand, {number}?", QuerySource.READER, trace),
        label_name="Liver",
        bbox_xyxy_px=(20, 40, 60, 80) if present else None,
        points_xy_px=((50, 60), (30, 50)) if present else None,
        plane=Plane.AXIAL,
        slice_index=number,
        modality="CT",
        window="soft",
        case_key="c" * 16,
        patient_key="d" * 16,
    )


def dataset_of(*samples):
    from datasets import Dataset

    rows = [to_row(sample, index) for index, sample in enumerate(samples)]
    return Dataset.from_list(rows, features=features())


def read(sample: Sample):
    return read_sample(dataset_of(sample)[0])


@pytest.fixture(scope="module")
def embedded_prompt():
    return load_prompt_file(EMBEDDED)


def test_a_row_is_read_as_it_was_written():
    sample = make_sample()
    raw = read(sample)
    np.testing.assert_array_equal(raw.image, sample.image)
    np.testing.assert_array_equal(raw.mask, sample.mask)
    assert raw.truth == GroundTruth((20, 40, 60, 80), ((50, 60), (30, 50)))
    assert raw.query == "What was drawn around by hand, 0?"
    assert (raw.label, raw.reasoning) == ("Liver", TRACE)
    assert read(make_sample(present=False)).truth is None


@pytest.mark.slow
def test_tokens_and_pixels_are_those_of_the_served_reasoner(embedded_prompt):
    trl = pytest.importorskip("trl")
    from trl.data_utils import prepare_multimodal_messages

    from medreasoner_infer.reasoners import load_transformers_reasoner

    assert trl.__version__
    reasoner = load_transformers_reasoner(EMBEDDED, device="cpu")
    loaded, sample = reasoner._loaded, make_sample()
    columns = RowMaker(embedded_prompt, loaded.frame)(read(sample), 0)
    messages = prepare_multimodal_messages(columns["prompt"], images=[columns["image"]])
    trained = loaded.processor.apply_chat_template(
        conversation=[messages], add_generation_prompt=True, tokenize=True, return_dict=True,
        return_tensors="pt",
    )  # fmt: skip
    square = prepare_image(sample.image, reasoner.image_encoding)
    served = reasoner._encode([ReasonerRequest(square, sample.question.text, "")])
    assert trained["input_ids"].tolist() == served["input_ids"].tolist()
    np.testing.assert_array_equal(trained["pixel_values"].numpy(), served["pixel_values"].numpy())
    assert trained["image_grid_thw"].tolist() == served["image_grid_thw"].tolist()


def test_the_image_is_encoded_as_the_model_was_trained(embedded_prompt):
    raw = read(make_sample())
    image = np.asarray(RowMaker(embedded_prompt, FRAME)(raw, 0)["image"])
    np.testing.assert_array_equal(image[..., 0], raw.image[..., 0])  # grey
    assert image[:, 0, 1].tolist() == [0] * SIZE  # x rises from left to right
    assert image[-1, :, 2].tolist() == [254] * SIZE  # y from top to bottom


def test_an_approved_answer_earns_all_that_can_be_earned(embedded_prompt):
    for present in (True, False):
        columns = RowMaker(embedded_prompt, FRAME)(read(make_sample(present=present)), 0)
        text = columns["completion"][0]["content"]
        earned = score(text, columns["ground_truth"], "hard", operating_iou=1.0)
        assert earned["score"] == 8.0
        assert text.startswith(f"<think>{TRACE}</think>")


def test_a_missing_trace_comes_from_a_template(embedded_prompt):
    raw = dataclasses.replace(read(make_sample()), reasoning=None)
    text = completion_of(raw, embedded_prompt.template, FRAME)
    assert text == (
        "<think>The question points to the liver, a region in the middle left of the image."
        '</think><answer>{"bbox":[20,40,60,80],"points_1":[30,50],"points_2":[50,60]}</answer>'
    )
    absent = completion_of(dataclasses.replace(raw, truth=None), embedded_prompt.template, FRAME)
    assert absent == (
        "<think>The question points to the liver, which is not visible on this slice.</think>"
        "<answer>null</answer>"
    )


@pytest.mark.parametrize(
    ("label", "trace", "taught"),
    [
        # The true box is (20, 40, 60, 80) of 128 px: in the left half, and in neither height.
        ("Liver", "A grey region in the middle left of the image.", True),
        ("Liver", "A grey region in the middle right of the image.", False),
        ("Liver", "A grey region in the right half of the image.", False),
        ("Liver", "From the left to the right of the image, left of the image first.", True),
        ("Liver", "It is in the upper left of the image.", True),
        ("Left kidney", "A bean on the patient's left.", True),
        ("Left kidney", "A bean on the patient's right.", False),
        ("Left kidney", "A bean on the left, beside the right ureter.", True),
        ("Kidney", "A bean on the patient's right.", True),
    ],
)
def test_a_trace_of_another_side_is_not_taught(embedded_prompt, label, trace, taught):
    raw = dataclasses.replace(read(make_sample()), reasoning=trace, label=label)
    text = completion_of(raw, embedded_prompt.template, FRAME)
    assert (trace in text) == taught
    assert "<think>" in text


@pytest.mark.parametrize(("word", "taught"), [("upper", True), ("lower", False), ("bottom", False)])
def test_a_trace_of_another_height_is_not_taught(embedded_prompt, word, taught):
    raw = read(make_sample())
    high = dataclasses.replace(raw.truth, bbox_xyxy_px=(20, 4, 60, 40))
    raw = dataclasses.replace(raw, truth=high, reasoning=f"In the {word} left of the image.")
    assert (raw.reasoning in completion_of(raw, embedded_prompt.template, FRAME)) == taught


def test_the_answer_is_spaced_as_the_prompt_shows_it():
    raw = read(make_sample())
    assert '{"bbox": [20, 40, 60, 80], ' in completion_of(raw, REASONING_PROMPT, FRAME)
    direct = PromptTemplate("s", "{query}", asks_reasoning=False)
    assert completion_of(raw, direct, FRAME).startswith('<answer>{"bbox":[20,40,')


def test_images_of_another_size_are_refused_or_scaled_with_their_truth(embedded_prompt):
    raw = read(make_sample(size=256))
    with pytest.raises(ImageSizeError, match="have 256 px, the model reads 128 px"):
        RowMaker(embedded_prompt, FRAME)(raw, 0)
    columns = RowMaker(embedded_prompt, FRAME, ImageSizes.scale)(raw, 0)
    truth = json.loads(columns["ground_truth"])  # 256 px to the 128 px of the image
    assert truth["bbox_2d"] == [10, 20, 30, 40]
    assert truth["point_2d"] == [[25, 30], [15, 25]]
    assert columns["image"].size == (128, 128)
    rows, cols = np.nonzero(np.asarray(columns["mask"]))
    assert (cols.min(), rows.min(), cols.max() + 1, rows.max() + 1) == (10, 20, 30, 40)
    answer = parse_answer(columns["completion"][0]["content"], image_size=128)
    assert answer.bbox_xyxy_px == (10, 20, 30, 40)


def test_a_mask_is_scaled_by_its_pixels_centres():
    mask = np.zeros((6, 6), bool)
    mask[1, 1] = True  # the centre of the first of 2 x 2 blocks
    assert scale_mask(mask, 2).tolist() == [[True, False], [False, False]]


@pytest.mark.slow
def test_augmentation_moves_truth_with_the_image_and_repeats_itself(embedded_prompt):
    pytest.importorskip("monai")
    maker = RowMaker(embedded_prompt, FRAME, augmentation=Augmentation())
    raw = read(make_sample())
    first, again, other = (maker(raw, seed) for seed in (5, 5, 6))
    assert first["ground_truth"] == again["ground_truth"]
    np.testing.assert_array_equal(np.asarray(first["image"]), np.asarray(again["image"]))
    assert not np.array_equal(np.asarray(first["image"]), np.asarray(other["image"]))
    rows, columns = np.nonzero(np.asarray(other["mask"]))
    box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert json.loads(other["ground_truth"])["bbox_2d"] == box


def test_every_pass_meets_each_sample_once_and_all_is_drawn_from_the_seed(embedded_prompt):
    raw = dataset_of(*(make_sample(number) for number in range(5)))
    maker = RowMaker(embedded_prompt, FRAME)
    rows, same, other = (training_rows(raw, maker, 12, seed) for seed in (1, 1, 2))
    asked = [row["prompt"][1]["content"] for row in rows]
    assert len(asked) == 12
    assert len(set(asked[:5])) == len(set(asked[5:10])) == 5
    assert asked == [row["prompt"][1]["content"] for row in same]
    assert asked != [row["prompt"][1]["content"] for row in other]


def test_a_data_set_without_samples_or_of_another_size_is_refused(embedded_prompt):
    maker = RowMaker(embedded_prompt, FRAME)
    with pytest.raises(TooFewSamplesError, match="no training sample"):
        training_rows(dataset_of(make_sample()).select([]), maker, 4, 0)
    with pytest.raises(ImageSizeError):
        training_rows(dataset_of(make_sample(size=256)), maker, 4, 0)


def test_the_replayed_share_is_of_all_samples(tmp_path):
    raw = dataset_of(*(make_sample(number) for number in range(6)))
    data = DataSettings(replay="phantoms", replay_share=0.25)
    mixed = with_replay(raw, data, tmp_path, SIZE)
    sources = [info["window"] for info in mixed["extra_info"]]
    assert sources.count("phantom") == 2
    assert len(mixed) == 8
    assert with_replay(raw, DataSettings(), tmp_path, SIZE) is raw


def test_a_run_whose_questions_are_counted_is_shown_no_phantom_twice(tmp_path):
    raw = dataset_of(*(make_sample(number) for number in range(6)))
    data = DataSettings(replay="phantoms", replay_share=0.25)
    mixed = with_replay(raw, data, tmp_path, SIZE, prompts=24)  # three passes over 6 and 2
    shown = [(read_sample(row), row["extra_info"]["window"] == "phantom") for row in mixed]
    phantoms = {(row.image.tobytes(), row.query) for row, is_phantom in shown if is_phantom}
    site = Counter(row.image.tobytes() for row, is_phantom in shown if not is_phantom)
    assert len(mixed) == 24
    assert len(phantoms) == 6
    assert list(site.values()) == [3] * 6


def test_replayed_phantoms_are_of_every_kind():
    kinds = {phantom_sample(index, SIZE).modality for index in range(120)}
    assert kinds >= {"CT", "X-ray", "dermoscopy", "brain MR", "fundus", "OCTA"}


def test_phantoms_that_tell_what_was_forgotten_are_none_that_were_replayed(tmp_path, monkeypatch):
    monkeypatch.setattr("medreasoner_training.finetune.replay._HELD_OUT_ROWS", 8)
    data = DataSettings(replay="phantoms", replay_share=0.25)
    held_out, learnt = (
        {read_sample(row).image.tobytes() for row in rows}
        for rows in (former_rows(data, tmp_path, SIZE), phantom_rows(8, SIZE))
    )
    assert len(held_out) == len(learnt) == 8
    assert not held_out & learnt


def former_site(folder: Path, split: str) -> DataSettings:
    """A data set whose samples 0 and 1 train, and 2 to 4 are in ``split``."""
    splits = tuple(dict.fromkeys((TRAIN, split)))
    with writing_dataset(folder / "former", splits, {}, LeftOut()) as writer:
        for number in range(5):
            sample = dataclasses.replace(make_sample(number), patient_key=f"{number:016d}")
            writer.add(sample, TRAIN if number < 2 else split)
    return DataSettings(replay="former", replay_share=0.5)


def test_validation_patients_of_the_replayed_data_set_tell_what_was_forgotten(tmp_path):
    rows = former_rows(former_site(tmp_path, VALIDATION), tmp_path, SIZE)
    assert [info["patient_key"][-1] for info in rows["extra_info"]] == ["2", "3", "4"]
    assert former_rows(DataSettings(), tmp_path, SIZE) is None


def test_replayed_data_set_without_validation_patients_is_refused(tmp_path):
    data = former_site(tmp_path, TRAIN)
    with pytest.raises(NoValidationError, match="what is forgotten"):
        former_rows(data, tmp_path, SIZE)


def test_about_every_other_replayed_question_asks_for_what_is_not_there():
    absent = [phantom_sample(index, SIZE).bbox_xyxy_px is None for index in range(12)]
    assert absent == [index % 2 == 1 for index in range(12)]


def test_replayed_phantoms_have_the_embedded_reasoner_s_own_traces(embedded_prompt):
    raw = phantom_rows(3, SIZE)
    for row in raw:
        sample = read_sample(row)
        columns = RowMaker(embedded_prompt, FRAME)(sample, 0)
        assert sample.reasoning.startswith("The question points to the ")
        text, truth = columns["completion"][0]["content"], columns["ground_truth"]
        assert score(text, truth, operating_iou=1.0)["score"] == 4.0
