# SPDX-License-Identifier: Apache-2.0
"""Follow-up questions: what they refer to, what they come to, and what is told of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medreasoner_infer.errors import InputError
from medreasoner_infer.imaging import Plane, Volume, slice_mapping
from medreasoner_infer.language import LANGUAGES
from medreasoner_infer.pipeline import Pipeline
from medreasoner_infer.reasoners.base import Reasoner
from medreasoner_infer.reasoners.known_targets import KnownTargets
from medreasoner_infer.reasoners.prompts import PromptTemplate
from medreasoner_infer.request import AskRequest, SliceSelection
from medreasoner_infer.result import Inference
from medreasoner_infer.talk.names import neighbours_at, other_side, part_of
from medreasoner_infer.talk.reference import Step, read_reference, refers_to_earlier
from medreasoner_infer.talk.slices import stepped
from medreasoner_infer.types import (
    EarlierTarget,
    Grounding,
    ModelIdentity,
    ReasonerAnswer,
    SliceMask,
)

IDENTITY = ModelIdentity("known", "nowhere", None, "0" * 64, "Apache-2.0")
# Patient mm from voxels: 40 x 40 x 20 of 2 x 2 x 5 mm, indices growing to L, P and S.
AFFINE = np.diag([2.0, 2.0, 5.0, 1.0])
# Organs as blocks of voxels, as they lie in a patient; the right kidney is on the left of a slice.
ORGANS = {
    "liver": (slice(2, 16), slice(6, 20), slice(9, 18)),
    "right kidney": (slice(6, 12), slice(22, 30), slice(4, 9)),
    "left kidney": (slice(28, 34), slice(22, 30), slice(4, 9)),
    "spleen": (slice(30, 38), slice(16, 24), slice(9, 18)),
    "stomach": (slice(20, 28), slice(6, 14), slice(8, 16)),
    "aorta": (slice(20, 23), slice(24, 27), slice(0, 20)),
    "pancreas": (slice(17, 27), slice(15, 19), slice(8, 14)),
}


class OrganReasoner(Reasoner):
    """Sees each organ where it is, and knows no other."""

    identity, input_size, image_encoding = IDENTITY, 80, "rgb"

    def __init__(self, organs=ORGANS, targets=True, takes_follow_ups=False):
        questions = {name: f"Where is the {name}?" for name in organs}
        known = KnownTargets(questions) if targets else None
        self.template = PromptTemplate("", "{query}", targets=known)
        self.takes_follow_ups = takes_follow_ups
        self.organs, self.asked, self.keys = organs, [], []

    def _sample(self, request, count, on_text, cancelled):
        self.asked.append(request.query)
        index = int(request.image_key.split("/")[2])
        name = request.query.removeprefix("Where is the ").removesuffix("?")
        place = self.organs.get(name)
        if place is None or not place[2].start <= index < place[2].stop:
            return (ReasonerAnswer("text", Grounding("Nothing.", None, None), 0.9, 3),) * count
        x1, x2, y1, y2 = (2.0 * v for s in place[:2] for v in (s.start, s.stop))
        middle = ((x1 + x2) / 2, (y1 + y2) / 2)
        box = (x1, y1, x2, y2)
        answer = ReasonerAnswer("text", Grounding("There.", box, (middle, middle)), 0.9, 3)
        return (answer,) * count


class BoxSegmenter:
    identity = IDENTITY

    def segment_slice(self, image, prompt):
        mask = np.zeros(image.pixels.shape[:2], dtype=bool)
        x1, y1, x2, y2 = map(round, prompt.bbox_xyxy_px)
        mask[y1:y2, x1:x2] = True
        return SliceMask(mask, 0.5)


@pytest.fixture
def volume() -> Volume:
    values = np.full((40, 40, 20), 100, dtype=np.int16)
    return Volume(values, AFFINE, "CT", "key", Path("known.nii.gz"))


def asked(volume, query, earlier=None, reasoner=None, **selection):
    pipeline = Pipeline(lambda: reasoner or OrganReasoner(), BoxSegmenter)
    request = AskRequest(query, SliceSelection(**selection), earlier=earlier)
    return pipeline.ask(volume, request)


def whole(result, name):
    """The answer with the organ's whole mask in the place of that of one slice."""
    mask = np.zeros(result.mask_ijk.shape, np.uint8)
    mask[ORGANS[name]] = 1
    return replace(result, mask_ijk=mask)


SAME_EVERYWHERE = {
    "size": ["How large is it?", "Wie groß ist es?", "Quelle est sa taille ?", "¿Cuánto mide?",
             "Quanto è grande?", "Qual o tamanho dele?", "它多大？", "大きさは？"],
    "volume": ["What is its volume?", "Und das Volumen?", "Quel est son volume ?",
               "¿Cuál es su volumen?", "Qual è il suo volume?", "Qual é o volume?", "体积是多少？",
               "体積はいくつですか"],
    "diameter": ["its longest diameter", "Wie ist der Durchmesser?", "son plus grand diamètre",
                 "¿qué diámetro tiene?", "qual è il diametro massimo?", "qual é o diâmetro?",
                 "最大直径", "直径は？"],
    "area": ["And the area?", "Welche Fläche hat es?", "Quelle surface ?", "¿Qué área tiene?",
             "e la superficie?", "e a área?", "面积呢？", "面積は？"],
    "other": ["And on the other side?", "Und auf der anderen Seite?", "Et de l'autre côté ?",
              "¿Y al otro lado?", "E dall'altra parte?", "E do outro lado?", "另一侧呢？",
              "反対側は？"],
    "next": ["and on the next slice?", "und auf der nächsten Schicht?", "et la coupe suivante ?",
             "¿y en el siguiente corte?", "e nella sezione successiva?", "e no corte seguinte?",
             "下一层呢？", "次のスライスは？"],
    "two up": ["two slices up", "zwei Schichten nach oben", "deux coupes plus haut",
               "dos cortes más arriba", "due sezioni più in alto", "dois cortes acima", "往上两层",
               "二つ上のスライス"],
    "behind": ["What lies behind it?", "Was liegt dahinter?", "Qu'est-ce qui est derrière ?",
               "¿Qué hay detrás?", "Che cosa c'è dietro?", "O que está atrás dele?",
               "它后面是什么？", "その後ろは何ですか？"],
    "beside": ["the one beside it", "was liegt daneben?", "et à côté ?", "¿y al lado?",
               "e accanto?", "e ao lado?", "旁边的呢？", "その隣は？"],
    "other kidney": ["the other kidney", "die andere Niere", "l'autre rein", "el otro riñón",
                     "l'altro rene", "o outro rim", "另一个肾", "反対側の腎臓"],
    "right": ["and the right one?", "und rechts?", "et à droite ?", "¿y a la derecha?",
              "e a destra?", "e à direita?", "右侧呢？", "右側は？"],
}  # fmt: skip
MEANT = {
    "size": {"to": "same", "quantity": "size"},
    "volume": {"to": "same", "quantity": "volume"},
    "diameter": {"to": "same", "quantity": "diameter"},
    "area": {"to": "same", "quantity": "area"},
    "other": {"to": "other"},
    "next": {"to": "same", "step": Step(1, "next")},
    "two up": {"to": "same", "step": Step(2, "above")},
    "behind": {"to": "neighbour", "place": "behind"},
    "beside": {"to": "neighbour", "place": "beside"},
    "other kidney": {"to": "other", "named": ("kidney", None)},
    "right": {"to": "side", "side": "right"},
}


@pytest.mark.parametrize("what", MEANT)
def test_the_same_is_read_in_eight_languages(what) -> None:
    for language, text in zip(LANGUAGES, SAME_EVERYWHERE[what], strict=True):
        read = read_reference(text)
        assert read is not None, (language, text)
        told = {key: value for key, value in vars(read).items() if value not in (None, False, "")}
        told.pop("language")
        assert told == MEANT[what], (language, text)


@pytest.mark.parametrize(
    "text",
    [
        "Where is the spleen?", "Segment the left kidney.", "Which organ is above the liver?",
        "liver and spleen", "What is this?", "Wo ist die Leber?",
        "the structure behind the trachea", "¿Dónde está el bazo?", "left lung",
        "Which organ makes bile and fills the right upper abdomen?",
        "Is there a fracture?", "Hello", "", "??", "Which organ is measured by PSA?",
        "Where is the heart on this slice?", "next", "𐩀 slices up", "segment it through the volume",
    ],
)  # fmt: skip
def test_a_question_that_stands_by_itself_refers_to_nothing(text) -> None:
    assert not refers_to_earlier(text)


def test_no_clinical_question_is_taken_for_a_follow_up() -> None:
    """All of the questions that clinicians ask of targets stand by themselves."""
    table = Path(__file__).parent / "data" / "clinical_questions.tsv"
    rows = [line.split("\t") for line in table.read_text(encoding="utf-8").splitlines()]
    taken = [text for *_, text in rows if refers_to_earlier(text)]
    assert len(rows) > 300
    assert len(taken) <= len(rows) // 200, taken


@pytest.mark.parametrize(
    ("target", "other"),
    [("left kidney", "right kidney"), ("right lung", "left lung"), ("left atrium", "right atrium"),
     ("right ventricle", "left ventricle"), ("liver", None), ("kidney", None)],
)  # fmt: skip
def test_what_has_sides_has_another_one(target, other) -> None:
    assert other_side(target) == other


def test_neighbours_are_those_that_the_vocabulary_tells_from_either_end() -> None:
    assert "left lung" in neighbours_at("spleen", "above")
    assert "stomach" in neighbours_at("spleen", "right of")  # the spleen is left of it
    assert "right kidney" in neighbours_at("liver", "below")
    assert "left kidney" not in neighbours_at("liver", "below")
    assert part_of("left lung", "upper lobe") == "left lung upper lobe"
    assert part_of("liver", "left lobe") is None


def flipped(volume, axis) -> Volume:
    affine = volume.ijk_to_lps.copy()
    affine[:3, 3] += affine[:3, axis] * (volume.shape_ijk[axis] - 1)
    affine[:3, axis] *= -1
    return replace(volume, array=np.flip(volume.array, axis), ijk_to_lps=affine)


def test_up_is_towards_the_head_however_the_file_counts_its_slices(volume) -> None:
    for image in (volume, flipped(volume, 2)):
        index, way = stepped(image, Plane.AXIAL, 10, Step(2, "above"))
        before, after = (
            slice_mapping(image, Plane.AXIAL, k).slice_px_to_lps((0, 0))[2] for k in (10, index)
        )
        assert after - before == pytest.approx(10)
        assert way == "2 slices towards the head"
        on, _ = stepped(image, Plane.AXIAL, 10, Step(1, "next"))
        assert (on - 10) == -(index - 10) / 2


def test_the_other_side_is_asked_for_and_told(volume) -> None:
    first = asked(volume, "Where is the left kidney?", index=6)
    reasoner = OrganReasoner()
    result = asked(volume, "and the same on the other side?", first, reasoner, index=6)
    assert reasoner.asked == ["Where is the right kidney?"]
    assert result.query == "and the same on the other side?"
    assert result.warnings[0] == "Read as: segment the right kidney."
    assert result.reading.target == "right kidney"
    assert result.reading.about_inference_id == first.inference_id
    assert result.follow_up.used
    assert result.mask_ijk[ORGANS["right kidney"][0], 25, 6].all()
    back = asked(volume, "And on the other side?", result, index=6)
    assert back.reading.target == "left kidney"  # it goes on from what was read


def test_sizes_come_from_the_mask_and_no_model_is_loaded(volume) -> None:
    first = whole(asked(volume, "Where is the left kidney?", index=6), "left kidney")

    def refuse():
        raise AssertionError("a model was loaded")

    pipeline = Pipeline(refuse, refuse)
    result = pipeline.ask(volume, AskRequest("How large is it?", earlier=first))
    assert (result.kind, result.reasoner, result.completion) == ("measure", None, None)
    assert result.inference_id != first.inference_id
    assert np.array_equal(result.mask_ijk, first.mask_ijk)
    measured = result.reading.measured
    assert measured.longest.length_mm == pytest.approx(np.hypot(12, 16), abs=1e-3)
    assert measured.volume_ml == pytest.approx(12 * 16 * 25 / 1000)
    assert "Volume 4.8 ml" in result.reasoning
    told = json.loads(json.dumps(result.to_dict()))
    assert Inference.from_dict(told) == result.record()
    again = asked(volume, "and the other one?", result, index=6)
    assert again.reading.target == "right kidney"


def test_several_answers_give_an_error_bar(volume) -> None:
    pipeline = Pipeline(OrganReasoner, BoxSegmenter)
    first = pipeline.ask(
        volume, AskRequest("Where is the spleen?", SliceSelection(index=12), samples=4)
    )
    measured = asked(volume, "measure it", first).reading.measured
    assert (measured.answers, measured.longest.deviation) == (4, 0.0)


def test_on_another_slice_the_same_is_asked_or_measured(volume) -> None:
    first = asked(volume, "Where is the spleen?", index=12)
    above = asked(volume, "and two slices up?", first)
    assert (above.slice.index, above.outcome) == (14, "present")
    assert above.warnings[0] == "Read as: segment the spleen, 2 slices towards the head."
    through = whole(first, "spleen")
    sizes = asked(volume, "how large is it on the next slice?", through)
    assert (sizes.kind, sizes.reading.measured.index) == ("measure", 11)
    beyond = asked(volume, "and ten slices up?", first)
    assert beyond.outcome == "not_understood"
    assert "only 7 slices further towards the head" in beyond.reasoning


def test_a_size_of_a_named_target_is_asked_for_and_measured(volume) -> None:
    result = asked(volume, "How large is the spleen?", index=12)
    assert (result.kind, result.follow_up) == ("ask", None)
    assert result.reading.measured.longest.length_mm == pytest.approx(np.hypot(16, 16), abs=1e-3)
    other = asked(volume, "how large is the aorta?", result, index=12)
    assert other.reading.target == "aorta"
    assert other.reading.measured.area_mm2 == pytest.approx(36)


@pytest.mark.parametrize(
    ("first", "index", "question", "found"),
    [
        ("left kidney", 6, "what is to its right?", "aorta"),
        ("aorta", 6, "the one to the left of it", "left kidney"),
        ("spleen", 12, "what lies beside it?", "stomach"),
        ("pancreas", 12, "what is in front of it?", "stomach"),
        ("liver", 12, "what is below it?", "right kidney"),
        ("left kidney", 6, "the one above it", "spleen"),
        ("pancreas", 12, "the one behind it", "aorta"),
    ],
)
def test_a_neighbour_is_the_nearest_that_the_model_sees_there(
    volume, first, index, question, found
) -> None:
    earlier = whole(asked(volume, f"Where is the {first}?", index=index), first)
    result = asked(volume, question, earlier)
    assert result.reading.target == found
    assert result.outcome == "present"


@pytest.mark.parametrize(
    ("first", "question", "said"),
    [
        ("liver", "and on the other side?", "There is one liver"),
        ("liver", "the other kidney", "open which kidney"),
        ("liver", "its left lobe", "The left lobe of the liver is nothing that this model"),
        ("aorta", "and the left one?", "no aorta on either side"),
    ],
)
def test_what_cannot_be_resolved_is_not_understood_and_says_what_is_missing(
    volume, first, question, said
) -> None:
    result = asked(volume, question, asked(volume, f"Where is the {first}?", index=12))
    assert result.outcome == "not_understood"
    assert said in result.reasoning
    assert not result.mask_ijk.any()
    assert result.reasoner is None


def test_a_model_that_knows_more_gets_the_part_in_words(volume) -> None:
    reasoner = OrganReasoner(targets=False, takes_follow_ups=True)
    first = asked(volume, "Where is the liver?", index=12)
    result = asked(volume, "Show me its left lobe", first, reasoner, index=12)
    assert reasoner.asked == ["Segment the left lobe of the liver."]
    assert result.warnings[0] == "Read as: segment the left lobe of the liver."


def test_without_the_answer_itself_nothing_is_measured_and_sides_are_still_read(volume) -> None:
    about = EarlierTarget("left kidney", "axial", 6, (28.0, 22.0, 34.0, 30.0))
    pipeline = Pipeline(OrganReasoner, BoxSegmenter)
    here = SliceSelection(index=6)
    sizes = pipeline.ask(volume, AskRequest("How large is it?", here, about=about))
    assert sizes.outcome == "not_understood"
    assert "No mask goes with the earlier answer" in sizes.reasoning
    other = pipeline.ask(volume, AskRequest("the other one", here, about=about))
    assert other.reading.target == "right kidney"


def test_an_answer_about_another_image_is_refused(volume) -> None:
    first = asked(volume, "Where is the spleen?", index=12)
    smaller = replace(volume, array=volume.array[:, :, :15])
    with pytest.raises(InputError, match="send an answer about this image"):
        asked(smaller, "How large is it?", first)


def test_nothing_is_measured_of_an_answer_that_marks_nothing(volume) -> None:
    first = asked(volume, "Where is the spleen?", index=0)
    assert first.outcome == "absent"
    assert "marks nothing" in asked(volume, "measure it", first).reasoning
