# SPDX-License-Identifier: Apache-2.0
"""A name with its grammar, and the phrase that it becomes in a sentence.

In the files a name of a language that has genders begins with one of ``GENDERS``; ``x``
where it stands without an article: ``f Leber``, ``mp poumons``, ``x VCI``. A ``~`` is the ending of
a German adjective, which the case decides: ``m recht~ Vorhof``; in brackets stands the ending of a
noun behind the nominative: ``m Polyp(en)``. The side of a paired organ is an
adjective, too, and always the patient's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from medreasoner_infer.language.errors import VocabularyError

Language = Literal["en", "de", "fr", "es", "it", "pt", "zh", "ja"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
Tongue = Literal["en", "de", "fr", "es", "it", "pt", "zh", "ja", "la"]
"""A language, or Latin, in which terms but no sentences are written."""

Slot = Literal["bare", "nom", "one", "acc", "dat", "of", "to"]
"""How a name stands in a sentence: without article; with it as subject, which must be singular in
``one``, or as object; behind a German preposition of place; behind "of" and, in Italian, "to",
which merge with the article."""
SLOTS: tuple[Slot, ...] = get_args(Slot)

Side = Literal["left", "right"]
SIDES: tuple[Side, ...] = get_args(Side)

GENDERS: MappingProxyType[Tongue, frozenset[str]] = MappingProxyType(
    {
        "de": frozenset({"m", "f", "n", "p", "x"}),
        "la": frozenset({"m", "f", "n", "x"}),
        "fr": frozenset({"m", "f", "mp", "fp", "mh", "fh", "x"}),
        "es": frozenset({"m", "f", "mp", "fp", "fe", "x"}),
        "it": frozenset({"m", "f", "mp", "fp", "x"}),
        "pt": frozenset({"m", "f", "mp", "fp", "x"}),
    }
)
"""Masculine, feminine, neuter; ``p`` is a plural; ``h`` is a French aspirated h (``le hile``);
``fe`` is a Spanish feminine with the article ``el`` (``el agua``)."""


_CASE_ENDING = re.compile(r"\((\w+)\)")


@dataclass(frozen=True)
class Name:
    """A term as it is written in one language; ``gender`` is empty where there are none."""

    text: str
    gender: str = ""

    @property
    def spelt(self) -> str:
        """The text without the marks of its grammar, e.g. ``recht Vorhof``."""
        return _CASE_ENDING.sub("", self.text).replace("~", "")

    def fits(self, slot: Slot) -> bool:
        """Whether it may stand there: no plural beside a verb that wants one thing."""
        return slot != "one" or not self.gender.endswith("p")


def parse_name(written: str, tongue: Tongue) -> Name:
    """A name as the files write it.

    Raises:
        VocabularyError: the gender of a language that has genders is missing.
    """
    genders = GENDERS.get(tongue)
    if genders is None:
        return Name(written)
    gender, _, text = written.partition(" ")
    if gender not in genders or not text:
        raise VocabularyError(
            f"{written!r} ({tongue}) does not begin with a gender; "
            f"expected one of {', '.join(sorted(genders))} and a space before the name."
        )
    return Name(text, gender)


def phrase(name: Name, tongue: Tongue, slot: Slot = "bare", side: Side | None = None) -> str:
    """The name as it stands in a sentence, e.g. ``die linke Niere`` or ``du rein gauche``.

    Args:
        name: the term.
        tongue: its language.
        slot: how it stands in the sentence; Latin, Chinese and Japanese know no difference.
        side: the patient's side of a paired organ.
    """
    if tongue == "de":
        return _german(name, slot, side)
    sided = _sided(name, tongue, side)
    if name.gender == "x" or tongue in ("la", "zh", "ja"):
        return sided
    if tongue == "en":
        return sided if slot == "bare" else f"the {sided}"
    return _romance(sided, name.gender, tongue, slot)


_SIDE_PREFIXES = {
    ("en", "left"): "left ",
    ("en", "right"): "right ",
    ("zh", "left"): "左",
    ("zh", "right"): "右",
    ("ja", "left"): "左",
    ("ja", "right"): "右",
}
_SIDE_ADJECTIVES: dict[tuple[str, Side], dict[str, str]] = {
    ("fr", "left"): {"m": "gauche", "f": "gauche", "mp": "gauches", "fp": "gauches"},
    ("fr", "right"): {"m": "droit", "f": "droite", "mp": "droits", "fp": "droites"},
    ("es", "left"): {"m": "izquierdo", "f": "izquierda", "mp": "izquierdos", "fp": "izquierdas"},
    ("es", "right"): {"m": "derecho", "f": "derecha", "mp": "derechos", "fp": "derechas"},
    ("it", "left"): {"m": "sinistro", "f": "sinistra", "mp": "sinistri", "fp": "sinistre"},
    ("it", "right"): {"m": "destro", "f": "destra", "mp": "destri", "fp": "destre"},
    ("pt", "left"): {"m": "esquerdo", "f": "esquerda", "mp": "esquerdos", "fp": "esquerdas"},
    ("pt", "right"): {"m": "direito", "f": "direita", "mp": "direitos", "fp": "direitas"},
    ("la", "left"): {"m": "sinister", "f": "sinistra", "n": "sinistrum"},
    ("la", "right"): {"m": "dexter", "f": "dextra", "n": "dextrum"},
}


def _sided(name: Name, tongue: Tongue, side: Side | None) -> str:
    if side is None:
        return name.text
    if (tongue, side) in _SIDE_PREFIXES:
        return _SIDE_PREFIXES[tongue, side] + name.text
    adjectives = _SIDE_ADJECTIVES[tongue, side]
    return f"{name.text} {adjectives.get(name.gender.rstrip('eh'), adjectives['m'])}"


_GERMAN_ARTICLES: dict[Slot, dict[str, str]] = {
    "nom": {"m": "der", "f": "die", "n": "das", "p": "die"},
    "one": {"m": "der", "f": "die", "n": "das", "p": "die"},
    "acc": {"m": "den", "f": "die", "n": "das", "p": "die"},
    "dat": {"m": "dem", "f": "der", "n": "dem", "p": "den"},
}
_STRONG_ENDINGS = {"m": "er", "f": "e", "n": "es", "p": "e", "x": "e"}


def _german(name: Name, slot: Slot, side: Side | None) -> str:
    adjective = {None: "", "left": "link~ ", "right": "recht~ "}[side]
    oblique = slot == "dat" or (slot, name.gender) == ("acc", "m")
    text = _CASE_ENDING.sub(r"\1" if oblique else "", adjective + name.text)
    articles = _GERMAN_ARTICLES.get(slot)
    if articles is None or name.gender == "x":
        return text.replace("~", _STRONG_ENDINGS[name.gender])
    weak = "en" if oblique or name.gender == "p" else "e"
    return f"{articles[name.gender]} {text.replace('~', weak)}"


_ARTICLES: dict[str, dict[str, str]] = {
    "fr": {"m": "le", "f": "la", "mp": "les", "fp": "les"},
    "es": {"m": "el", "f": "la", "mp": "los", "fp": "las", "fe": "el"},
    "it": {"m": "il", "f": "la", "mp": "i", "fp": "le"},
    "pt": {"m": "o", "f": "a", "mp": "os", "fp": "as"},
}
_OF: dict[str, dict[str, str]] = {
    "fr": {"le": "du", "la": "de la", "l'": "de l'", "les": "des"},
    "es": {"el": "del", "la": "de la", "los": "de los", "las": "de las"},
    "it": {
        "il": "del", "lo": "dello", "la": "della", "l'": "dell'", "i": "dei", "gli": "degli",
        "le": "delle",
    },
    "pt": {"o": "do", "a": "da", "os": "dos", "as": "das"},
}  # fmt: skip
_ITALIAN_TO = {
    "il": "al", "lo": "allo", "la": "alla", "l'": "all'", "i": "ai", "gli": "agli", "le": "alle",
}  # fmt: skip
_VOWEL = re.compile(r"[aeiouâàéèêëîïôœ]", re.IGNORECASE)
_FRENCH_MUTE = re.compile(r"[aeiouhâàéèêëîïôœ]", re.IGNORECASE)
_ITALIAN_LO = re.compile(r"(s[bcdfglmnpqrtvz]|z|ps|pn|pt|gn|x|y)", re.IGNORECASE)


def _romance(text: str, gender: str, tongue: Tongue, slot: Slot) -> str:
    if slot == "bare":
        return text
    article = _article(text, gender, tongue)
    if slot == "of":
        article = _OF[tongue][article]
    elif slot == "to" and tongue == "it":
        article = _ITALIAN_TO[article]
    return article + text if article.endswith("'") else f"{article} {text}"


def _article(text: str, gender: str, tongue: Tongue) -> str:
    article = _ARTICLES[tongue][gender.removesuffix("h")]
    if tongue == "fr" and gender in ("m", "f") and _FRENCH_MUTE.match(text):
        return "l'"
    if tongue != "it":
        return article
    if gender in ("m", "f") and _VOWEL.match(text):
        return "l'"
    if gender == "m" and _ITALIAN_LO.match(text):
        return "lo"
    if gender == "mp" and (_VOWEL.match(text) or _ITALIAN_LO.match(text)):
        return "gli"
    return article
