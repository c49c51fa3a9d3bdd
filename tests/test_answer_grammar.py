# SPDX-License-Identifier: Apache-2.0
"""xgrammar's reading of the pattern against Python's ``re``."""

from __future__ import annotations

import re

import pytest

from medreasoner_infer.answer import answer_regex

xgrammar = pytest.importorskip("xgrammar")

LIMIT = 30
PATTERN = answer_regex((112, 90), LIMIT)
BODY = '{"bbox": [10,20, 112, 90],"points_1":[111, 89], "points_2": [0,0]}'


@pytest.fixture(scope="module")
def grammar():
    """The pattern over a vocabulary of single bytes and an end token."""
    vocabulary = [bytes([value]) for value in range(256)] + [b"<end>"]
    info = xgrammar.TokenizerInfo(
        vocabulary, vocab_type=xgrammar.VocabType.RAW, stop_token_ids=[256]
    )
    return xgrammar.GrammarCompiler(info).compile_regex(PATTERN)


def accepts(grammar, text: str) -> bool:
    matcher = xgrammar.GrammarMatcher(grammar)
    return all(matcher.accept_token(byte) for byte in text.encode()) and matcher.accept_token(256)


CASES = [
    f"<think>Left lobe.</think><answer>{BODY}</answer>",
    f"<think>Left lobe.</think>\n<answer>{BODY}</answer>",
    f"<think>Left lobe.</think> <answer>{BODY}</answer>",
    f"<answer>{BODY}</answer>",
    "<think>x</think><answer>null</answer>",
    "<think>x</think><answer>none</answer>",
    '<think>x</think><answer>"not understood"</answer>',
    "<think>x</think><answer>not understood</answer>",
    "<think>" + "y" * LIMIT + "</think><answer>null</answer>",
    "<think>" + "y" * (LIMIT + 1) + "</think><answer>null</answer>",
    "<think>" + "肝" * LIMIT + "</think><answer>null</answer>",
    "<think>" + "肝" * (LIMIT + 1) + "</think><answer>null</answer>",
    "<think>a\nb</think><answer>null</answer>",
    "<think>a\tb</think><answer>null</answer>",
    "<think>a\x00b</think><answer>null</answer>",
    "<think> a</think><answer>null</answer>",
    "<think>a<b</think><answer>null</answer>",
    "<think></think><answer>null</answer>",
    f"<think>x</think><answer>{BODY.replace('112', '113')}</answer>",
    f"<think>x</think><answer>{BODY.replace('111', '112')}</answer>",
    f"<think>x</think><answer>{BODY.replace('89', '90')}</answer>",
    f"<think>x</think><answer>{BODY.replace('20', '020')}</answer>",
    f"<think>x</think><answer>{BODY.replace('20', '20.5')}</answer>",
    f"<think>x</think><answer>{BODY.replace(', ', ',  ')}</answer>",
    f"<think>x</think><answer>{BODY}</answer> ",
]


@pytest.mark.parametrize("text", CASES)
def test_constrained_decoding_allows_what_the_pattern_matches(grammar, text) -> None:
    assert accepts(grammar, text) == (re.fullmatch(PATTERN, text) is not None)


def test_the_cases_hold_both_outcomes() -> None:
    matching = [text for text in CASES if re.fullmatch(PATTERN, text)]
    assert 0 < len(matching) < len(CASES)
