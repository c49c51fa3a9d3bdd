# SPDX-License-Identifier: Apache-2.0
"""Questions made from the vocabulary: of each kind, of equal seeds equal, and nothing leaks."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from medreasoner_infer.errors import InputError
from medreasoner_infer.language import LANGUAGES, phrase, plain_text, vocabulary
from medreasoner_training.embedded.queries import known_targets
from medreasoner_training.embedded.questions import (
    KINDS,
    SPLITS,
    Question,
    QuestionWriter,
    known_names,
    question_set,
)
from medreasoner_training.embedded.questions.known import REAL_LABELS
from medreasoner_training.embedded.questions.loosening import (
    filler_of,
    loosened,
    with_words_dropped,
)
from medreasoner_training.embedded.questions.nonsense import invented_word
from medreasoner_training.embedded.questions.splits import form_key, split_of_each, split_of_text
from medreasoner_training.embedded.questions.typing_errors import (
    doubled,
    dropped,
    misspelt,
    neighboured,
    neighbours,
    swapped,
    without_accents,
)
from medreasoner_training.embedded.questions.wording import (
    described,
    filled,
    listed,
    slot_of,
    vary_surface,
)


@pytest.fixture(scope="module")
def writer() -> QuestionWriter:
    return QuestionWriter()


@pytest.fixture(scope="module")
def sets(writer) -> dict[str, list[Question]]:
    counts = {"train": 6000, "validation": 1000, "test": 2500}
    return {split: question_set(writer, split, count, 5) for split, count in counts.items()}


def drawn(writer, kind, language, split="train", tries=200) -> list[Question]:
    rng = np.random.default_rng(0)
    found = (writer.write(kind, language, split, rng) for _ in range(tries))
    return [question for question in found if question is not None]


def test_equal_seeds_give_equal_questions_and_others_others(writer):
    first, second = (question_set(QuestionWriter(), "train", 150, 7) for _ in range(2))
    assert first == second
    assert first != question_set(writer, "train", 150, 8)
    assert {q.text for q in first}.isdisjoint(q.text for q in question_set(writer, "test", 150, 7))


def test_there_are_thousands_of_distinct_questions(sets):
    assert {split: len(questions) for split, questions in sets.items()} == {
        "train": 6000, "validation": 1000, "test": 2500,
    }  # fmt: skip
    for split, questions in sets.items():
        assert len({question.text for question in questions}) == len(questions)
        assert {question.split for question in questions} == {split}


def test_every_kind_and_language_is_there(sets):
    pairs = Counter((q.kind, q.language) for q in sets["train"])
    for kind in KINDS:
        assert pairs[kind, "en"] > 50, kind
    for language in LANGUAGES:
        assert sum(count for (_, lang), count in pairs.items() if lang == language) > 200
        for kind in ("name", "synonym", "implicit", "several", "outside"):
            assert pairs[kind, language] > 5, (kind, language)


def test_every_known_target_is_asked_for_in_every_language(writer, sets):
    asked = {(q.language, target) for q in sets["train"] for target in q.targets}
    for known in known_targets().values():
        assert ("en", known.name) in asked
    many = [q for language in LANGUAGES for q in drawn(writer, "name", language, tries=900)]
    asked = {(q.language, target) for q in many for target in q.targets}
    for known in known_targets().values():
        for language in LANGUAGES:
            assert (language, known.name) in asked


def test_only_what_is_outside_or_nonsense_has_no_target(sets):
    for question in (q for questions in sets.values() for q in questions):
        none = question.kind in ("outside", "nonsense")
        assert (question.targets == ()) == none
        assert (len(question.targets) > 1) == (question.kind == "several")
        assert question.target == (
            None if none or len(question.targets) > 1 else question.targets[0]
        )


def test_targets_are_the_known_ones_and_only_paired_ones_have_a_side(sets):
    words = vocabulary().targets
    for question in (q for questions in sets.values() for q in questions):
        for target in question.targets:
            bare = re.sub("^(left|right) ", "", target)
            name = target if target in words else bare
            assert name in known_names()
            assert name == target or words[name].paired


def test_no_form_of_one_split_occurs_in_another(sets):
    """After normalisation and without its slot, also not in another language.

    Forms without words belong to the training; a held-out language may share words with others.
    """
    forms = {
        split: {form_key(q.form) for q in questions if q.language != "pt"} - {""}
        for split, questions in sets.items()
    }
    assert not forms["train"] & forms["test"]
    assert not forms["train"] & forms["validation"]
    assert not forms["validation"] & forms["test"]
    assert len(forms["test"]) > 40
    for split in ("validation", "test"):
        assert all(q.form for q in sets[split] if q.kind not in ("nonsense", "outside"))


def test_no_training_text_is_a_held_out_form_with_a_name(writer, sets):
    trained = {plain_text(q.text) for q in sets["train"]}
    checked = 0
    for (language, group, split), forms in writer.material.forms.items():
        if split == "train" or group != "requests" or language == "pt":
            continue
        names = [n for t in vocabulary().targets.values() for n in t.expressions(language)]
        for form in forms:
            slot = slot_of(form)
            texts = {plain_text(filled(form, phrase(name, language, slot))) for name in names}
            assert not texts & trained, form
            checked += len(texts)
    assert checked > 5000


def test_no_fact_of_one_split_occurs_in_another(sets):
    facts = {split: {q.source for q in qs if q.kind == "implicit"} for split, qs in sets.items()}
    assert not facts["train"] & facts["test"]
    assert not facts["train"] & facts["validation"]
    assert len(facts["test"]) > 60


def test_no_held_out_fact_is_told_in_a_training_question(writer, sets):
    """As text, not by key: in no language, after normalisation."""
    trained = [plain_text(q.text) for q in sets["train"]]
    whole = "\n".join(trained)
    checked = 0
    for split in ("validation", "test"):
        for item in writer.material.facts[split]:
            for text in item.fact.texts.values():
                assert plain_text(text.partition(" | ")[2] or text) not in whole, text
                checked += 1
    assert checked > 400


def test_no_held_out_text_is_a_training_text(sets):
    trained = {plain_text(q.text) for q in sets["train"]} - {""}
    for split in ("validation", "test"):
        assert not trained & {plain_text(q.text) for q in sets[split]}


def test_terms_that_are_outside_are_held_out_whole(sets):
    terms = {split: {q.source for q in qs if q.kind == "outside"} for split, qs in sets.items()}
    assert not terms["train"] & terms["test"]
    assert len(terms["test"]) > 50


def test_all_forms_of_a_held_out_language_are_kept_for_the_test(writer, sets):
    trained = [q for q in sets["train"] if q.language == "pt" and q.kind != "nonsense"]
    assert trained
    assert {form_key(q.form) for q in trained} == {""}
    assert len({q.form for q in sets["test"] if q.language == "pt"}) > 20
    whole = QuestionWriter(held_out_languages=())
    assert {form_key(q.form) for q in drawn(whole, "name", "pt")} - {""}
    assert not drawn(whole, "name", "pt", "test")[0].form.startswith("{")


def test_a_target_that_is_not_known_is_outside():
    few = QuestionWriter(known={"liver", "kidney"})
    asked = {target for q in drawn(few, "name", "en") for target in q.targets}
    assert asked == {"liver", "kidney", "left kidney", "right kidney"}
    outside = [q for split in SPLITS for q in drawn(few, "outside", "en", split, tries=9000)]
    assert {"spleen", "appendicitis"} <= {q.source for q in outside}
    with pytest.raises(InputError, match="unicorn"):
        QuestionWriter(known={"liver", "unicorn"})


def test_the_labels_of_the_real_images_are_known():
    assert set(REAL_LABELS.values()) <= set(vocabulary().targets)
    assert {"cell nuclei", "optic disc", "polyp", "liver", "spleen"} <= known_names()
    assert "appendicitis" not in known_names()


def test_a_misspelt_name_never_names_something_else(writer):
    """Where only accents are missing, it still names its own target."""
    names = writer.material.plain_names()
    for language in ("en", "de", "fr", "es", "it"):
        bare = [q for q in drawn(writer, "misspelt", language, tries=900) if q.form == "{bare}"]
        assert bare
        for question in bare:
            target = vocabulary().targets.get(str(question.target)) or next(
                t for name, t in vocabulary().targets.items() if str(question.target).endswith(name)
            )
            own = {plain_text(name.spelt) for name in target.expressions(language)}
            assert plain_text(question.text) in own or plain_text(question.text) not in names
    liver = [q.text.lower() for q in drawn(writer, "misspelt", "en", tries=2000) if "liv" in q.text]
    assert {"livre", "livver", "lievr", "liverr", "livet"} & {w for t in liver for w in t.split()}


def test_chinese_and_japanese_names_are_not_misspelt(writer):
    assert drawn(writer, "misspelt", "zh") == drawn(writer, "misspelt", "ja") == []


def test_invented_words_begin_like_no_name():
    rng = np.random.default_rng(3)
    words = {invented_word(rng, {"liver", "spleen"}) for _ in range(300)}
    assert len(words) > 200
    assert not any(word.startswith(("live", "sple")) for word in words)


def test_a_list_of_both_kidneys_asks_for_both(writer):
    both = [q for q in drawn(writer, "several", "en", tries=800) if "both kidneys" in q.text]
    assert both
    assert all({"left kidney", "right kidney"} <= set(q.targets) for q in both)


def test_sides_of_questions_are_those_of_their_targets(writer):
    words = {
        "en": (r"\b(left|lt)\b", r"\b(right|rt)\b"),
        "de": ("link", "recht"),
        "zh": ("左", "右"),
    }
    for language, (left, right) in words.items():
        for question in drawn(writer, "name", language, tries=600):
            if question.targets[0].endswith(("kidney", "lung")):
                text = question.text.lower()
                assert bool(re.search(left, text)) == question.targets[0].startswith("left")
                assert bool(re.search(right, text)) == question.targets[0].startswith("right")


def test_typing_errors_are_those_of_fingers():
    rng = np.random.default_rng(0)
    assert swapped("liver", 3, rng, "qwerty") == "lievr"
    assert dropped("liver", 2, rng, "qwerty") == "lier"
    assert doubled("liver", 2, rng, "qwerty") == "livver"
    assert set(neighbours("qwerty")["g"]) == set("fhtyvb")
    assert set(neighbours("qwertz")["z"]) == set("tugh")
    assert neighboured("Leber", 2, rng, "qwertz") in {f"Le{key}er" for key in "vngh"}
    assert without_accents("hígado, cœur, Ösophagus") == "higado, cœur, Osophagus"


def test_a_text_without_a_long_word_is_not_misspelt():
    rng = np.random.default_rng(0)
    assert misspelt("肝臓はどこ", rng, "qwerty") == "肝臓はどこ"
    assert misspelt("IVC", rng, "qwerty") == "IVC"
    wrong = {misspelt("liver", rng, "qwerty") for _ in range(200)}
    assert {"lvier", "lier", "livver", "lober"} & wrong
    assert all(text.startswith("l") for text in wrong)


def test_facts_become_questions_and_noun_phrases():
    fact = next(f for f in vocabulary().targets["gallbladder"].facts if f.kind == "function")
    side = vocabulary().forms["en"].on_side["left"]
    assert described("Which {head} {clause}?", fact, "en", None) == (
        "Which sac stores and concentrates bile?"
    )
    assert described("Show me {fact}.", fact, "en", side) == (
        "Show me the sac that stores and concentrates bile, on the patient's left."
    )
    assert described("Où est {fact} ?", fact, "fr", None) == (
        "Où est le petit sac qui stocke la bile ?"
    )


def test_lists_are_joined_as_the_language_does():
    forms = vocabulary().forms
    assert listed(["liver", "spleen", "aorta"], "en", forms["en"]) == "liver, spleen and aorta"
    assert listed(["bazo", "hígado"], "es", forms["es"]) == "bazo e hígado"
    assert listed(["el bazo", "el hígado"], "es", forms["es"]) == "el bazo y el hígado"
    assert listed(["肝脏", "脾脏"], "zh", forms["zh"]) == "肝脏和脾脏"


def test_neighbours_are_told_from_the_patient(writer):
    facts = {
        item.fact.texts["en"]: item.fact
        for split in SPLITS
        for item in writer.material.facts[split]
        if item.target.name == "spleen" and item.fact.kind == "place"
    }
    fact = facts["structure | lies to the patient's left of the stomach and above the left kidney"]
    assert fact.texts["de"] == (
        "die Struktur, die vom Patienten aus links von dem Magen und oberhalb von der linken "
        "Niere liegt"
    )
    assert fact.texts["it"] == (
        "la struttura che si trova alla sinistra anatomica dello stomaco e sopra il rene sinistro"
    )


def test_a_varied_surface_keeps_the_words():
    rng = np.random.default_rng(0)
    varied = {vary_surface("Where is the liver?", rng) for _ in range(200)}
    assert {plain_text(text) for text in varied} == {"where is the liver"}
    assert {"WHERE IS THE LIVER?", "where is the liver", "Where is the liver?"} <= varied


def test_splits_follow_the_text_and_not_the_order():
    keys = [f"fact {i}" for i in range(10)]
    splits = split_of_each(keys)
    assert splits == split_of_each(reversed(keys))
    assert Counter(splits.values()) == {"train": 7, "test": 2, "validation": 1}
    held_out = {key: split for key, split in splits.items() if split != "train"}
    assert held_out == {"fact 1": "test", "fact 4": "test", "fact 0": "validation"}
    assert Counter(split_of_each(["a", "b"]).values()) == {"test": 1, "validation": 1}
    given = split_of_each(keys, {"fact 3": "test", "fact 4": "train"})
    assert (given["fact 3"], given["fact 4"]) == ("test", "train")
    assert Counter(given.values()) == {"train": 7, "test": 2, "validation": 1}
    shares = Counter(split_of_text(f"word {i}") for i in range(4000))
    assert abs(shares["test"] / 4000 - 0.2) < 0.03
    assert abs(shares["validation"] / 4000 - 0.1) < 0.03


def test_a_form_is_known_by_its_words():
    assert form_key("Segment {nom}.") == form_key("segment {bare}") == "segment"
    assert form_key("{bare} ?") == ""
    assert form_key("請{bare}") == form_key("請")


def test_a_loosened_form_keeps_its_slots_and_is_mostly_another():
    rng = np.random.default_rng(0)
    filler = filler_of(["Show me {nom}.", "Where is {nom}?"], "en")
    assert filler == ("Show", "Where", "is", "me")
    texts = [loosened("Please mark {nom} for me.", filler, "en", rng) for _ in range(200)]
    assert all(text.count("{nom}") == 1 for text in texts)
    assert len(set(texts)) > 150
    assert not any(re.search(r"\w\{|\}\w", text) for text in texts)


def test_a_loosened_question_asks_for_the_same(writer):
    loose = QuestionWriter(known=("liver",), held_out_languages=(), loose_share=1.0)
    rng = np.random.default_rng(1)
    found = [loose.write("name", "en", "train", rng) for _ in range(100)]
    assert all("liver" in question.text.lower() for question in found if question)
    assert {question.targets for question in found if question} == {("liver",)}


def test_words_of_a_description_are_dropped_where_words_are_spaced():
    rng = np.random.default_rng(2)
    text = "the organ that makes bile and stores glycogen in the right upper abdomen"
    dropped = [with_words_dropped(text, "en", rng) for _ in range(50)]
    assert all(set(d.split()) <= set(text.split()) for d in dropped)
    assert 0.8 < np.mean([len(d.split()) for d in dropped]) / len(text.split()) < 0.95
    assert with_words_dropped("分泌胆汁的器官", "zh", rng) == "分泌胆汁的器官"
