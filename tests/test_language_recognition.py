# SPDX-License-Identifier: Apache-2.0
"""What a question names is read in any language, misspelt, and in words that no form has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medreasoner_infer.language import LANGUAGES, VocabularyError, vocabulary
from medreasoner_infer.language.clues import clue_of
from medreasoner_infer.language.dicom_terms import structure_names
from medreasoner_infer.language.lists import questions_of
from medreasoner_infer.language.recognition import recognised
from medreasoner_infer.language.recollection import FactIndex

KNOWN = frozenset(vocabulary().targets) - {"femur"}

# Written as users write, without a look at the forms of the vocabulary.
NAMED = {
    "segment the liver": "liver",
    "LIVER": "liver",
    "Could you trace the outline of the spleen for me, please?": "spleen",
    "I'd like a mask of the left kidney, thanks": "left kidney",
    "Where exactly is the gallbladder on this slice?": "gallbladder",
    "hepar": "liver",
    "vesica urinaria": "urinary bladder",
    "IVC": "inferior vena cava",
    "kidney on the right": "right kidney",
    "hepatic segmentation": "liver",
    "right renal mask": "right kidney",
    "show me the windpipe": "trachea",
    "the spleeen": "spleen",
    "segmnet teh livre": "liver",
    "gallblader please": "gallbladder",
    "where is the panceras": "pancreas",
    "Wo liegt hier die Milz?": "spleen",
    "Kannst du bitte die linke Niere einzeichnen": "left kidney",
    "bitte Lebr markieren": "liver",
    "Où se trouve le foie ?": "liver",
    "Pouvez-vous entourer le rein gauche, s'il vous plaît": "left kidney",
    "la rate svp": "spleen",
    "¿Dónde está el bazo?": "spleen",
    "¿Me puedes marcar el riñón derecho, por favor?": "right kidney",
    "estomago": "stomach",
    "Mi mostri la milza?": "spleen",
    "dov'è il fegato": "liver",
    "Onde fica o fígado?": "liver",
    "Marque o rim esquerdo, por favor": "left kidney",
    "请帮我标出肝脏": "liver",
    "脾脏在哪里？": "spleen",
    "左肾": "left kidney",
    "肝臓はどこですか": "liver",
    "脾臓を囲んでください": "spleen",
    "右の腎臓を見せて": "right kidney",
    "Segment the Leber": "liver",
    "show me the foie": "liver",
    "RK": "right kidney",
    "spinal cord as OAR": "spinal cord",
    "linken Vorhof zeigen": "left atrium",
}

OUTSIDE = (
    "appendicitis?",
    "Where is the hippocampus?",
    "Where is the femur?",
    "Zeig mir die Gebärmutter",
    "Où est l'utérus ?",
    "pacemaker",
    "apendicitis",
    "hipocampus",
)

STRANGE = (
    "asdf qwer",
    "4711",
    "?!?",
    "xkqv zbtrw",
    "grmblfx",
    "What is this?",
    "hello",
    "昨天谁赢了比赛",
    "标记wouseb",
    "请帮我订一张火车票",
)

SEVERAL = ("liver and spleen", "Leber, Milz und beide Nieren", "both kidneys")

TO_BE_UNDERSTOOD = (
    "What explains the fullness behind the stomach?",
    "gallbladder stone",
    "fluid around the liver",
    "Which organ hurts after a fatty meal?",
    "PV",
    "left",
)


@pytest.mark.parametrize("text", NAMED)
def test_a_named_target_is_read_with_the_patients_side(text: str) -> None:
    found = recognised(text, KNOWN)
    assert found is not None
    assert (found.read, found.name) == ("known", NAMED[text])


@pytest.mark.parametrize("text", OUTSIDE)
def test_a_term_that_is_no_known_target_is_told(text: str) -> None:
    found = recognised(text, KNOWN)
    assert found is not None
    assert found.read == "outside"


@pytest.mark.parametrize("text", STRANGE)
def test_words_that_mean_nothing_are_told(text: str) -> None:
    found = recognised(text, KNOWN)
    assert found is not None
    assert found.read == "unknown_words"


@pytest.mark.parametrize("text", SEVERAL)
def test_several_targets_are_told(text: str) -> None:
    found = recognised(text, KNOWN)
    assert found is not None
    assert found.read == "several"


@pytest.mark.parametrize("text", TO_BE_UNDERSTOOD)
def test_what_says_more_than_a_name_is_left_to_the_model(text: str) -> None:
    assert recognised(text, KNOWN) is None


ELSEWHERE = """
everything but the liver | not the liver | without the pancreas | what is next to the liver
something near the spleen | the area under the heart | after the trachea | the other kidney
right-hand lung | something in the left lung | the liver is normal, what is behind it
nicht die Leber | alles außer der Leber | neben der Milz | Leber oder Milz | um die Leber herum
tout sauf le foie | près de la rate | pas le foie | autour de la rate
todo menos el hígado | qué hay al lado del hígado | no es el hígado | sin el hígado
tutto tranne il fegato | vicino alla milza | non il fegato | accanto al fegato
tudo menos o fígado | perto do baço | não o fígado | sem o fígado
不是肝脏 | 除了肝脏 | 肝脏旁边是什么 | 肝臓以外 | 肝臓の隣は何ですか | 肝臓ではない
"""


@pytest.mark.parametrize(
    "text",
    [text.strip() for line in ELSEWHERE.split("\n") for text in line.split("|") if text.strip()],
)
def test_what_is_denied_or_lies_elsewhere_is_not_what_is_named(text: str) -> None:
    found = recognised(text, KNOWN)
    assert found is None or found.read != "known" or found.by is not None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Donor work-up, LEFT KIDNEY volume required for split function", "left kidney"),
        ("78-jähriger Raucher, jetzt Rückenschmerzen: Wie weit ist die Aorta heute?", "aorta"),
        ("RX TÓRAX PORTÁTIL. CORAZÓN: SILUETA", "heart"),
        ("Diamètre du tronc pulmonaire au niveau de sa bifurcation ?", "pulmonary artery"),
        ("polmnoe sinistro collassato, mostra", "left lung"),
        ("Spinal cord, compressed at C5/6?", "spinal cord"),
        ("前日21時から絶食の患者です。胃はどこに写っていますか", "stomach"),
        ("胸片PA位 心脏轮廓", "heart"),
        ("主動脈在哪裡", "aorta"),
        ("請標出膽囊", "gallbladder"),
        ("左肺下葉有實變嗎", "consolidation"),
        ("腎臟囊腫", "renal cyst"),
        ("大動脈", "aorta"),
        ("the kidney, rt", "right kidney"),
        ("the liver, not the spleen", "liver"),
        ("die Gallenblase neben der Leber", "gallbladder"),
        ("foie sans vésicule", "liver"),
    ],
)
def test_one_target_is_found_among_whatever_other_words(text, name) -> None:
    found = recognised(text, KNOWN)
    assert found is not None
    assert (found.read, found.name) == ("known", name)


@pytest.mark.parametrize(
    "text",
    [
        "the outflow tract beside the right ventricle",
        "cells of the liver's neighbour",
        "recipe for chicken liver with sage",
        "the patient lives alone",
        "heart rate?",
        "大動脈弁",
        "left and right atrium",
        "the gland in front of the trachea and beside the aorta",
        "Colore tout sauf le foie",
        "¿Qué es eso que se ve pegado al riñón?",
        "腎臓と脾臓は抜きで、残りの構造を表示",
    ],
)
def test_a_target_that_only_tells_of_something_else_is_not_asked_for(text) -> None:
    found = recognised(text, KNOWN)
    assert found is None or found.read != "known" or found.by is not None


@pytest.mark.parametrize(
    "text",
    ["Left hemiparesis since March, kidney size?", "Schmerzen links. Niere vergrößert?"],
)
def test_a_side_that_is_another_thing_s_is_not_taken(text) -> None:
    assert recognised(text, KNOWN).name == "kidney"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Foie et rate, volumétrie des deux avant greffe", ["foie", "rate"]),
        ("Risikoorgane: Herz, linke Lunge, Rückenmark", ["Herz", "linke Lunge", "Rückenmark"]),
        ("Covid scoring wants GGO and consolidation separately", ["GGO", "consolidation"]),
    ],
)
def test_targets_next_to_each_other_are_a_list_among_whatever_other_words(text, names) -> None:
    assert list(questions_of(text)) == names


def test_a_fact_of_the_vocabulary_is_recalled_and_only_from_the_facts_that_are_given() -> None:
    assert recognised("What lies behind the stomach?", KNOWN).name == "pancreas"
    text = "Which organ turns ammonia into urea?"
    assert recognised(text, KNOWN).name == "liver"
    assert recognised(text, KNOWN, FactIndex(())) is None


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_fact_is_recalled_in_every_language_whatever_words_ask_for_it(language) -> None:
    ask = {
        "en": "Please show me the {}.", "de": "Zeig mir bitte: {}!", "fr": "Montrez-moi : {}",
        "es": "Enséñame: {}, por favor", "it": "Mostrami: {}", "pt": "Mostre-me: {}",
        "zh": "哪个是{}？", "ja": "{}を探しています。",
    }[language]  # fmt: skip
    facts = [
        (target, fact)
        for target in vocabulary().targets.values()
        for fact in target.facts
        if target.name in KNOWN and not target.paired and language in fact.texts
    ]
    read = [recognised(ask.format(fact.texts[language]), KNOWN) for _, fact in facts]
    right = [
        found is not None and found.name == target.name
        for found, (target, _) in zip(read, facts, strict=True)
    ]
    assert len(right) > 100
    assert np.mean(right) > 0.9


def test_a_fact_of_a_pair_keeps_the_side_that_the_question_tells() -> None:
    text = "organ that filters the blood and makes urine, on the patient's left"
    found = recognised(text, KNOWN)
    assert found is None or found.name == "left kidney"
    assert recognised("the air-filled organ that has three lobes", KNOWN).name == "right lung"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Which structure lies behind the trachea and in front of a vertebra?", "oesophagus"),
        ("was liegt links von der Leber und vor der linken Niere", None),
        ("哪个是位于肝脏后方、患者的右肾脏左侧的结构？", "inferior vena cava"),
        ("a mass behind the liver and to the left of the right kidney", None),
    ],
)
def test_a_place_between_neighbours_is_read_if_the_text_says_no_more(text, name) -> None:
    found = recognised(text, KNOWN)
    assert (found and found.name) == name


@pytest.mark.parametrize(
    ("text", "read", "name"),
    [
        ("Is there a mass in the liver?", "known", "liver lesion"),
        ("the vessel to the left of the vena cava", "known", "aorta"),
        ("which organ pumps the blood around?", "known", "heart"),
        ("Nierensteine", "known", "kidney"),
        ("organ of hearing", "outside", "ear"),
        ("¿con qué olemos?", "outside", "nose"),
        ("nerve that is trapped in carpal tunnel syndrome", "outside", "median nerve"),
        ("cirrhosis or splenomegaly", None, None),
        ("liver sausage from Lyon", "unknown_words", ""),
    ],
)
def test_words_that_tell_a_target_only_together_are_read_in_any_order(text, read, name) -> None:
    found = recognised(text, KNOWN)
    assert (found and found.read, found and found.name) == (read, name)


def test_a_clue_without_a_word_or_a_target_is_refused() -> None:
    with pytest.raises(VocabularyError, match="needs no word"):
        clue_of("liver", "sign", "-pain", "en", Path("en.yaml"))
    assert clue_of("liver", "sign", "bile|gall produc* -store*", "en", Path("en.yaml")).needed == (
        (" bile ", " gall "),
        (" produc",),
    )


def test_a_word_that_is_right_is_not_taken_for_another() -> None:
    assert recognised("pulmonary mask", KNOWN).name == "lung"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("cirrhosis?", "liver"),
        ("What is taken out in a left nephrectomy?", "left kidney"),
        ("¿hay esplenomegalia?", "spleen"),
        ("有没有肝硬化", "liver"),
        ("cirrhosis of the hippocampus", None),
        ("cirrhosis or splenomegaly", None),
    ],
)
def test_a_disease_or_procedure_leads_to_its_target_if_the_text_says_no_more(text, name) -> None:
    found = recognised(text, KNOWN)
    assert (found.name if found and found.read == "known" else None) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Drinker, ascites, previous appendectomy. Please outline the spleen.", "spleen"),
        ("Patient mit Fieber und Aszites, bitte die linke Niere einzeichnen", "left kidney"),
        ("The liver is normal. Show me the mass behind it.", None),
        ("Outline the liver. Outline the spleen.", None),
    ],
)
def test_a_request_is_read_behind_a_history_if_it_asks_for_one_thing(text, name) -> None:
    found = recognised(text, KNOWN)
    assert (found.name if found and found.read == "known" else None) == name


def test_a_term_of_dicoms_tables_is_none_of_the_targets() -> None:
    assert recognised("Show me the adventitia", KNOWN).read == "outside"
    assert recognised("abdominal aorta", KNOWN).name == "aorta"


# --- structures that facts tell of ----------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["hepatic veins", "Where is the splenic vein?", "the middle hepatic veins", "left ovaries",
     "show me the outflow tract of the right ventricle", "splenium of the corpus callosum",
     "right branch of the hepatic artery", "parathyroid glands"],
)  # fmt: skip
def test_a_structure_that_facts_of_a_target_tell_of_is_not_that_target(text: str) -> None:
    found = recognised(text, KNOWN)
    assert found is not None
    assert found.read == "outside"


def test_what_is_asked_about_such_a_structure_is_recalled() -> None:
    found = recognised("Which vein receives the hepatic veins?", KNOWN)
    assert found is not None
    assert found.name == "inferior vena cava"
    assert found.by is not None


def test_no_structure_of_dicom_s_table_leads_to_a_target_by_a_fact() -> None:
    """Of a structure alone nothing is asked but where it is."""
    names = sorted({text for text in structure_names() if len(text.split()) <= 5})[::6]
    assert len(names) > 200
    read = {name: recognised(name, KNOWN) for name in names}
    by_fact = {
        name: found.name
        for name, found in read.items()
        if found is not None and found.read == "known" and found.by is not None
    }
    assert by_fact == {}
