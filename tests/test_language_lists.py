# SPDX-License-Identifier: Apache-2.0
"""A list of targets makes one question for each; whatever isn't certainly a list stays whole."""

from __future__ import annotations

from collections import Counter

import pytest

from medreasoner_infer.language import (
    SIDES,
    SLOTS,
    Language,
    phrase,
    plain_text,
    questions_of,
    vocabulary,
)
from medreasoner_training.embedded.questions import Question, QuestionWriter, question_set

LISTS = {
    "Segment liver, spleen and both kidneys": (
        "Segment liver", "Segment spleen", "Segment left kidney", "Segment right kidney",
    ),
    "Can you please mark the liver, and the kidneys on this image?": (
        "Can you please mark the liver on this image?",
        "Can you please mark the left kidney on this image?",
        "Can you please mark the right kidney on this image?",
    ),
    "Where are the liver and the spleen?": ("liver", "spleen"),
    "Segment the liver and spleen": ("Segment the liver", "Segment spleen"),
    "left kidney and ureter": ("left kidney", "ureter"),
    "Where is the liver and where is the spleen?": ("Where is the liver?", "Where is the spleen?"),
    "left and right kidney": ("left kidney", "right kidney"),
    "both lungs": ("left lung", "right lung"),
    "kidney (left) & spleen; aorta": ("kidney (left)", "spleen", "aorta"),
    "liver, gastric body and antrum": ("liver", "gastric body and antrum"),
    "liver, spleen, the liver": ("liver", "spleen"),
    "left kidney and both kidneys": ("left kidney", "right kidney"),
    "Segment the liver and the mandible": ("Segment the liver", "Segment the mandible"),
    "Markiere bitte die linke und rechte Niere und die Milz.": (
        "Markiere bitte die linke Niere.", "Markiere bitte die rechte Niere.",
        "Markiere bitte die Milz.",
    ),
    "Leber, Milz sowie beide Nieren": ("Leber", "Milz", "linke Niere", "rechte Niere"),
    "Où sont le foie, la rate et les deux reins ?": ("foie", "rate", "rein gauche", "rein droit"),
    "Segmentation du foie et de la rate": ("Segmentation du foie", "Segmentation de la rate"),
    "Segmenta el bazo e hígado.": ("Segmenta el bazo.", "Segmenta hígado."),
    "Marca hígado, bazo y ambos riñones": (
        "Marca hígado", "Marca bazo", "Marca riñón izquierdo", "Marca riñón derecho",
    ),
    "Mostrami il fegato, la milza e i due reni.": (
        "Mostrami il fegato.", "Mostrami la milza.", "Mostrami rene sinistro.",
        "Mostrami rene destro.",
    ),
    "Segmente o fígado, o baço e os rins": (
        "Segmente o fígado", "Segmente o baço", "Segmente o rim esquerdo",
        "Segmente o rim direito",
    ),
    "分割肝脏、脾脏和双肾": ("分割肝脏", "分割脾脏", "分割左肾脏", "分割右肾脏"),
    "请分别勾画肝脏以及脾脏。": ("肝脏", "脾脏"),
    "肝臓、脾臓と左右の腎臓を抽出してください。": (
        "肝臓を抽出してください。", "脾臓を抽出してください。",
        "左腎臓を抽出してください。", "右腎臓を抽出してください。",
    ),
}  # fmt: skip

WHOLE = (
    "",
    "?",
    "liver",
    "Segment the liver.",
    "kidneys of the liver",
    "The structure between liver and spleen",
    "vessel in front of the aorta and behind the pancreas",
    "the organ that stores bile and contracts after fat",
    "liver lesion",
    "liver and spleen lesions",
    "lung and breast cancer",
    "the lung and breast cancer",
    "right and left hepatic lobes",
    "gastric body and antrum",
    "liver and hepatic parenchyma",
    "Which region of the liver and spleen?",
    "Is the liver larger than the spleen and the kidney?",
    "the liver, but not the spleen",
    "the liver without the gallbladder and spleen",
    "lvier and spleen",
    "liver spleen",
    "the mandible and the tongue",
    "die Struktur zwischen Leber und Milz",
    "Leber- und Milzruptur",
    "la structure entre le foie et la rate",
    "cancer du poumon et du sein",
    "la estructura entre el hígado y el bazo",
    "la struttura tra il fegato e la milza",
    "Dov'è il fegato?",
    "a estrutura entre o fígado e o baço",
    "肝脏和脾脏之间的结构",
    "肝臓と脾臓の間の構造",
)


@pytest.mark.parametrize("text", LISTS)
def test_a_list_makes_one_question_for_each_target_in_its_language(text: str) -> None:
    assert questions_of(text) == LISTS[text]


@pytest.mark.parametrize("text", WHOLE)
def test_what_is_not_certainly_a_list_stays_as_it_is(text: str) -> None:
    assert questions_of(text) == (text,)


def test_a_question_that_was_made_makes_no_further_ones() -> None:
    made = [question for questions in LISTS.values() for question in questions]
    assert [questions_of(question) for question in made] == [(question,) for question in made]


def test_nearly_all_written_lists_are_taken_apart_and_hardly_anything_else() -> None:
    writer = QuestionWriter(held_out_languages=())
    questions = question_set(writer, "test", 1200, seed=3)
    total = Counter(question.kind == "several" for question in questions)
    right = Counter(question.kind == "several" for question in questions if _is_right(question))
    assert right[True] >= 0.97 * total[True]
    assert right[False] >= 0.995 * total[False]


def _is_right(question: Question) -> bool:
    made = questions_of(question.text)
    if question.kind != "several":
        return made == (question.text,)
    asked = set(question.targets)
    return len(made) == len(asked) and all(
        any(_names(text, target, question.language) for text in made) for target in asked
    )


def _names(text: str, sided: str, language: Language) -> bool:
    first, _, rest = sided.partition(" ")
    is_target = sided in vocabulary().targets
    side = next((side for side in SIDES if side == first and not is_target), None)
    target = vocabulary().targets[rest if side else sided]
    said = (phrase(n, language, slot, side) for n in target.names[language] for slot in SLOTS)
    return any(plain_text(words) in plain_text(text) for words in said)
