# SPDX-License-Identifier: Apache-2.0
"""What an answer without coordinates says in words: that the target is absent, or that the
question was not understood.
"""

from __future__ import annotations

import re
from typing import Final, Literal

#: The JSON text that stands in the answer block of a question that cannot be judged.
NOT_UNDERSTOOD: Final = "not understood"

WithoutBox = Literal["absent", "not_understood"]

_COORDINATE = re.compile(r"[\[{\d]")
_AROUND = " \t\r\n\"'`*.!"
_NOT = r"(?:not|cannot|(?:ca|do|does|did|could)n['’]?t|unable|impossible|fail(?:s|ed)?)"
_ASKED = (
    r"(?:questions?|quer(?:y|ies)|requests?|prompts?|terms?|words?|wording|phras(?:e|ing)|input)"
)
_SHOWN = r"(?:images?|pictures?|modality|scans?|slices?)"
_PUZZLING = (
    r"(?:unclear|unknown|unfamiliar|ambiguous|nonsens\w*|gibberish|meaningless|unintelligible|"
    r"undefined|vague|un(?:answer|judge|recogni[sz])able|unrecogni[sz]ed)"
)
_SEVERAL = r"several|multiple|more than one|many|two|three"


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE)


_ABSENT_WORD = _pattern(r"(?:none|n/?a|absent|not[ _-]?present|no target)\.?")
_ABSENT_SENTENCE = _pattern(
    r"\b(?:absent|not (?:present|visible|seen|found|there|shown|identifiable|on this))\b"
)
_PUZZLED_WORD = _pattern(
    rf"(?:not[ _-]?(?:understood|understandable|clear|known|sure|answerable)|{_PUZZLING}|unsure|"
    r"uncertain|undetermined|indeterminate|misunderstood)"
)
# These say it of the question, whatever they say of a target besides.
_PUZZLED_SENTENCES = tuple(
    _pattern(text)
    for text in (
        r"\bnot[ _-]?understood\b",
        rf"\b{_NOT}(?: \w+){{0,2}} (?:understand|understood|interpret(?:ed)?|comprehend(?:ed)?|"
        r"makes? (?:any )?sense|parsed?)\b",
        rf"(?<!in )(?<!(?:in|by|of) the )\b{_ASKED}(?: \w+){{0,6}} "
        rf"(?:is|are|was|seems?|appears?|remains?|lies|falls)(?: \w+){{0,2}} (?:{_PUZZLING}|"
        r"not (?:clear|known|understandable|meaningful|answerable|medical|clinical)|outside|"
        r"beyond|out of)\b",
        rf"\b(?:unclear|ambiguous|unknown|unfamiliar|nonsens\w*|meaningless|unintelligible) "
        rf"(?:\w+ )?(?:{_ASKED}|{_SHOWN}|target|structure|anatomy)\b",
        r"\b(?:outside|beyond|out of)(?: of)?(?: \w+){0,2} "
        r"(?:scope|knowledge|know|domain|training|expertise|trained|learn\w*)\b",
        rf"\b(?:unsupported|unknown) (?:kind|type|sort) of {_SHOWN}\b",
        rf"\b(?:not|no) (?:a |an )?(?:medical|clinical|radiological) (?:{_ASKED}|{_SHOWN})\b",
        rf"\b(?:{_SEVERAL}) (?:\w+ )?targets\b",
        rf"\b(?:names?|asks?(?: for| about)?|mentions?) (?:{_SEVERAL})\b",
    )
)
# Said of a question as of a target; where the target is said to be absent that is the answer.
_DOUBTING_SENTENCES = tuple(
    _pattern(text)
    for text in (
        rf"\b{_NOT}(?: \w+){{0,3}} (?:judged?|answer(?:ed)?|assess(?:ed)?|evaluated?|"
        r"know)\b",
        rf"\b(?:{_PUZZLING}|uncertain|unsure)\b",
    )
)


def says_not_understood(text: str) -> bool:
    """Whether words without any coordinate say of the question that it cannot be judged."""
    if _COORDINATE.search(text):
        return False
    word = text.strip(_AROUND)
    if _PUZZLED_WORD.fullmatch(word):
        return True
    return any(sentence.search(text) for sentence in _PUZZLED_SENTENCES)


def said_in_words(text: str) -> WithoutBox | None:
    """What words without any coordinate say; ``None`` where they say neither.

    A question that was not understood goes before an absent target: then nothing can be said of
    any target.
    """
    if _COORDINATE.search(text):
        return None
    if says_not_understood(text):
        return "not_understood"
    if _ABSENT_WORD.fullmatch(text.strip()) or _ABSENT_SENTENCE.search(text):
        return "absent"
    return "not_understood" if any(each.search(text) for each in _DOUBTING_SENTENCES) else None
