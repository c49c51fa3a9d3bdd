# SPDX-License-Identifier: Apache-2.0
"""The clinical vocabulary: whole in eight languages, without contradiction, and of the patient."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml

import medreasoner_infer.language
from medreasoner_infer.language import (
    LANGUAGES,
    SLOTS,
    Name,
    Target,
    VocabularyError,
    phrase,
    plain_text,
    read_vocabulary,
    vocabulary,
)
from medreasoner_infer.language.grammar import parse_name
from medreasoner_training.embedded.phantom.study import torso_ct
from medreasoner_training.embedded.queries import known_targets

FOLDER = Path(medreasoner_infer.language.__file__).parent
FILES = sorted(FOLDER.glob("*/*.yaml"))
PHANTOM = {re.sub("^(left|right) ", "", target.name) for target in known_targets().values()}
PHANTOM_NAMES = {
    "vertebra": "spine",
    "inferior vena cava": "vena cava",
    "urinary bladder": "bladder",
}


def targets() -> list[Target]:
    return list(vocabulary().targets.values())


def names_by_language(target: Target) -> list[tuple[str, str]]:
    """Language and normalised text of all that a target is called."""
    found = [(lang, name.spelt) for lang in LANGUAGES for name in target.expressions(lang)]
    found += [("la", name.spelt) for name in target.names.get("la", ())]
    return [(lang, plain_text(text)) for lang, text in found]


@pytest.mark.parametrize(
    ("written", "tongue", "slot", "side", "expected"),
    [
        ("f Niere", "de", "nom", "left", "die linke Niere"),
        ("m Lungenflügel", "de", "acc", "right", "den rechten Lungenflügel"),
        ("m Lungenflügel", "de", "bare", "right", "rechter Lungenflügel"),
        ("n Schulterblatt", "de", "bare", "left", "linkes Schulterblatt"),
        ("f ober~ Hohlvene", "de", "dat", None, "der oberen Hohlvene"),
        ("p beid~ Nieren", "de", "acc", None, "die beiden Nieren"),
        ("p beid~ Nieren", "de", "bare", None, "beide Nieren"),
        ("m Polyp(en)", "de", "acc", None, "den Polypen"),
        ("m Polyp(en)", "de", "nom", None, "der Polyp"),
        ("fe agua", "es", "nom", None, "el agua"),
        ("m pterigio", "it", "nom", None, "lo pterigio"),
        ("m estomac", "fr", "of", None, "de l'estomac"),
        ("m foie", "fr", "of", None, "du foie"),
        ("f surrénale", "fr", "nom", "right", "la surrénale droite"),
        ("fh hanche", "fr", "nom", "left", "la hanche gauche"),
        ("mp corps", "fr", "of", None, "des corps"),
        ("m pulmón", "es", "of", "left", "del pulmón izquierdo"),
        ("m stomaco", "it", "of", None, "dello stomaco"),
        ("f aorta", "it", "nom", None, "l'aorta"),
        ("m fegato", "it", "to", None, "al fegato"),
        ("m rim", "pt", "of", "right", "do rim direito"),
        ("x VCI", "fr", "nom", None, "VCI"),
        ("肾", "zh", "nom", "right", "右肾"),
        ("kidney", "en", "nom", "left", "the left kidney"),
        ("f glandula suprarenalis", "la", "nom", "left", "glandula suprarenalis sinistra"),
    ],
)
def test_a_name_stands_in_a_sentence_as_its_language_wants(written, tongue, slot, side, expected):
    assert phrase(parse_name(written, tongue), tongue, slot, side) == expected


@pytest.mark.parametrize("written", ["Leber", "q Leber", "f", ""])
def test_a_name_without_its_gender_is_refused(written):
    with pytest.raises(VocabularyError, match="gender"):
        parse_name(written, "de")


def test_plain_text_drops_what_writers_vary_and_keeps_the_voicing_of_kana():
    assert plain_text("  Où est le CŒUR ?") == "ou est le coeur"
    assert plain_text("Magen-Darm, weiß!") == "magen darm weiss"
    assert plain_text("がん") != plain_text("かん")


def test_every_target_of_the_phantoms_is_in_the_vocabulary():
    assert set(vocabulary().targets) >= PHANTOM


def test_every_label_of_totalsegmentator_and_of_the_phantoms_has_its_target():
    """The names of the table of codes are those of TotalSegmentator; levels are merged."""
    path = FOLDER.parents[1] / "monailabel_app" / "dicom" / "codes.yaml"
    table = yaml.safe_load(path.read_text(encoding="utf-8"))
    coded = {target.code for target in targets()}
    numbered = re.compile(r"(rib \d+|vertebrae .+)")
    wanted = {*table["structures"], *table["findings"]}
    missing = {name for name in wanted - coded if not numbered.fullmatch(name)}
    assert missing == {"atrial appendage"}


@pytest.mark.parametrize("target", targets(), ids=lambda target: target.name)
def test_every_target_is_named_in_all_languages(target):
    for language in LANGUAGES:
        assert target.names[language], language
    assert len(list(target.expressions("en"))) + len(target.names.get("la", ())) >= 4
    assert len(target.facts) >= 8
    translated = [fact for fact in target.facts if set(fact.texts) == set(LANGUAGES)]
    assert translated, "no fact is there in all languages"


@pytest.mark.parametrize("name", sorted(PHANTOM))
def test_targets_of_the_phantoms_are_described_richly(name):
    target = vocabulary().targets[name]
    expressions = [*target.expressions("en"), *target.names.get("la", ())]
    assert len(expressions) + len(target.adjectives.get("en", ())) >= 9
    assert len(target.facts) >= 10
    for language in LANGUAGES:
        assert len(list(target.expressions(language))) >= 2, language
        told = [fact for fact in target.facts if language in fact.texts]
        assert len(told) >= 3, language


def test_no_name_is_shared_unless_it_is_marked_ambiguous():
    """Nor across languages, since a question does not say in which one it is."""
    owners: dict[str, set[str]] = {}
    for target in targets():
        marked = {plain_text(name) for name in target.ambiguous}
        for _, text in names_by_language(target):
            if text not in marked:
                owners.setdefault(text, set()).add(target.name)
    for term in vocabulary().outside.values():
        for name in term.names.values():
            owners.setdefault(plain_text(name.spelt), set()).add(term.name)
    assert {key: names for key, names in owners.items() if len(names) > 1} == {}


def test_what_is_marked_ambiguous_is_a_name_of_its_target():
    for target in targets():
        own = {text for _, text in names_by_language(target)}
        assert {plain_text(name) for name in target.ambiguous} <= own


def test_a_target_says_its_names_once():
    for target in targets():
        names = [(lang, name) for lang in LANGUAGES for name in target.expressions(lang)]
        counts = Counter((lang, name.text.casefold()) for lang, name in names)
        assert [key for key, count in counts.items() if count > 1] == [], target.name


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_files_are_composed_unicode(path):
    text = path.read_text(encoding="utf-8")
    assert unicodedata.is_normalized("NFC", text)
    assert "\u00a0" not in text
    assert "\u200b" not in text


def test_codes_are_those_of_the_table():
    codes = pytest.importorskip("monailabel_app.dicom.codes", exc_type=ImportError).code_table()
    for target in targets():
        if target.code is not None:
            assert codes.find(target.code) != codes.unspecified, target.name
        for name in (target.name, *(name.text for name in target.expressions("en"))):
            found = codes.find(name)
            if found != codes.unspecified and name not in target.ambiguous:
                assert found == codes.find(target.code or ""), (target.name, name)


def _names_target(target: Target, language: str, fact: str) -> list[str]:
    text = plain_text(fact)
    found = []
    for name in target.expressions(language):
        word = plain_text(name.spelt)
        if language in ("zh", "ja") or (language == "de" and len(word) >= 5):
            hit = word in text
        else:
            hit = re.search(rf"\b{re.escape(word)}(s|es)?\b", text) is not None
        if hit:
            found.append(name.text)
    return found


@pytest.mark.parametrize("target", targets(), ids=lambda target: target.name)
def test_no_fact_names_its_target(target):
    stems = {
        stem
        for known in known_targets().values()
        if re.sub("^(left|right) ", "", known.name) == target.name
        for stem in known.stems
    }
    for fact in target.facts:
        for language, text in fact.texts.items():
            assert _names_target(target, language, text) == [], text
        english = fact.texts["en"].lower()
        assert [stem for stem in stems if re.search(rf"\b{stem}", english)] == [], english


def test_no_fact_is_told_of_two_targets():
    told = Counter(
        (language, plain_text(text), fact.side)
        for target in targets()
        for fact in target.facts
        for language, text in fact.texts.items()
    )
    assert [key for key, count in told.items() if count > 1] == []


def test_sides_are_of_the_patient():
    """No side of the image, screen or slice is spoken of, in no language."""
    of_image = re.compile(
        r"(left|right) (side|half|part)? ?of the (image|picture|screen|slice)"
        r"|(links|rechts|linken|rechten)\b[^.]*\b(Bild|Bildes)\b"
        r"|(gauche|droite) de l'image|(izquierda|derecha) de la imagen"
        r"|(sinistra|destra) dell'immagine|(esquerda|direita) da imagem|图像[左右]|画像の[左右]",
        re.IGNORECASE,
    )
    for path in FILES:
        # Lists of single words, of which no two make a sentence.
        if path.parent.name == "follow_ups":
            continue
        assert of_image.search(path.read_text(encoding="utf-8")) is None, path


def test_only_paired_targets_have_facts_and_neighbours_of_one_side():
    for target in targets():
        sides = {fact.side for fact in target.facts} | {n.side for n in target.neighbours}
        assert target.paired or sides <= {None}, target.name
        for neighbour in target.neighbours:
            assert (neighbour.side is not None) == target.paired, target.name
            other = vocabulary().targets[neighbour.to]
            assert (neighbour.to_side is not None) == other.paired, (target.name, neighbour)


def test_neighbours_do_not_contradict_each_other():
    opposite = {
        "right of": "left of", "left of": "right of", "above": "below", "below": "above",
        "in front of": "behind", "behind": "in front of",
    }  # fmt: skip
    told = {
        (target.name, n.side, n.where, n.to, n.to_side)
        for target in targets()
        for n in target.neighbours
    }
    for name, side, where, to, to_side in told:
        assert (name, side, opposite[where], to, to_side) not in told
        assert (to, to_side, where, name, side) not in told, (name, where, to)


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_word_of_a_description_is_alike_to_two_others(language):
    forms = vocabulary().forms[language]
    words = Counter(word for group in forms.alike for word in set(map(plain_text, group)))
    assert [word for word, count in words.items() if count > 1] == []
    assert not words.keys() & set(map(plain_text, forms.little))
    assert len(forms.alike) >= 10


def test_two_relations_lead_to_one_target():
    pairs: dict[frozenset, set] = {}
    for target in targets():
        for side in target.sides:
            own = [n for n in target.neighbours if n.side == side]
            relations = [(n.where, n.to, n.to_side) for n in own]
            for i, first in enumerate(relations):
                for second in relations[:i]:
                    pairs.setdefault(frozenset((first, second)), set()).add((target.name, side))
    assert {key: owners for key, owners in pairs.items() if len(owners) > 1} == {}
    assert len(pairs) > 40


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_language_has_its_request_forms(language):
    forms = vocabulary().forms[language]
    allowed = {f"{{{slot}}}" for slot in SLOTS}
    assert len({plain_text(form) + form.count("?") * "?" for form in forms.requests}) >= 25
    for form in forms.requests:
        assert set(re.findall(r"{\w+}", form)) <= allowed, form
        assert form.count("{") == 1, form
    for form in forms.descriptions:
        assert "{fact}" in form or ("{head}" in form and "{clause}" in form), form
    assert all("{list}" in form for form in forms.several)
    assert len(forms.where) == 6
    assert len(set(forms.where.values())) == 6


def test_a_thousand_terms_are_known_to_be_outside():
    outside = vocabulary().outside
    assert len(outside) >= 1000
    for language in LANGUAGES:
        assert sum(language in term.names for term in outside.values()) >= 950
    assert {"appendicitis", "hippocampus", "pacemaker", "borborygmus"} <= set(outside)


def test_labels_of_the_real_images_are_targets(shared_data):
    path = shared_data / "real" / "manifest.json"
    if not path.is_file():
        pytest.skip(f"the real images are absent: no file {path}")
    labels = {row["label"] for row in json.loads(path.read_text(encoding="utf-8"))}
    names = {
        text for target in targets() for lang, text in names_by_language(target) if lang == "en"
    }
    sided = {f"{side} {name}" for name in names for side in ("left", "right")}
    unknown = {label for label in labels if plain_text(label) not in names | sided}
    assert unknown == {
        "foveal avascular zone deep", "foveal avascular zone superficial", "nucleus 2",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("liver: [", "cannot be read as YAML"),
        ("liver: {names: {en: [liver]}, facts: [], colour: red}", "colour"),
        ("liver: {names: {de: [Leber]}, facts: []}", "gender"),
        ("liver: {names: {en: [liver]}, facts: [{kind: function, en: makes bile}]}", r" \| "),
        ("liver: {names: {en: [liver]}, facts: [{kind: colour, en: a | b}]}", "kind"),
        ("liver: {names: {en: [liver]}, facts: [], neighbours: [[above, moon]]}", "no target"),
        ("liver: {names: {en: [liver]}, facts: [], neighbours: [[above]]}", "1 parts"),
    ],
)
def test_a_fault_in_a_file_is_told_with_its_place(tmp_path, broken, message):
    (tmp_path / "targets").mkdir()
    (tmp_path / "targets" / "a.yaml").write_text(broken, encoding="utf-8")
    with pytest.raises(VocabularyError, match=message):
        read_vocabulary(tmp_path)


def test_a_missing_folder_is_told(tmp_path):
    with pytest.raises(VocabularyError, match="targets"):
        read_vocabulary(tmp_path)


def test_a_name_without_gender_stands_in_every_slot():
    assert {phrase(Name("liver"), "en", slot) for slot in SLOTS} == {"liver", "the liver"}


def test_neighbours_lie_so_in_the_phantom():
    """Independent of the files: centres of the structures of a generated torso, in LPS."""
    study = torso_ct(3, spacing_mm=(5.0, 5.0, 10.0), matrix=80)
    centres = {
        name: np.argwhere(study.labels == value).mean(axis=0)[::-1]
        for value, name in study.label_names.items()
    }
    axes = {
        "left of": (0, 1), "right of": (0, -1), "behind": (1, 1), "in front of": (1, -1),
        "above": (2, 1), "below": (2, -1),
    }  # fmt: skip
    wrong, checked = [], 0
    for target in targets():
        for n in target.neighbours:
            own, other = (" ".join(filter(None, pair)) for pair in (
                (n.side, target.name), (n.to_side, n.to)))  # fmt: skip
            own, other = (PHANTOM_NAMES.get(name, name) for name in (own, other))
            if own in centres and other in centres:
                axis, sign = axes[n.where]
                checked += 1
                if sign * (centres[own][axis] - centres[other][axis]) <= 0:
                    wrong.append((own, n.where, other))
    assert checked > 20
    assert wrong == []
