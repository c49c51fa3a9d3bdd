# SPDX-License-Identifier: Apache-2.0
"""What the repository's documents hold: shell blocks, the commands in them, links."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHELL = frozenset({"bash", "console", "sh"})
ELLIPSIS = "…"

_FENCE = re.compile(r"^\s*```(\w*)\s*$")
_BLOCK = re.compile(r"^\s*```.*?^\s*```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_LINK = re.compile(r"!?\[[^]]*\]\(([^)\s]+)\)")
_HEREDOC = re.compile(r"<<-?\s*'?(\w+)'?")
_LOOP = re.compile(r"\bfor (\w+) in (\S+)")
_HEADING = re.compile(r"^#+\s+(.*?)\s*$", re.MULTILINE)
_REDIRECTION = re.compile(r"[<>]+")
_SEPARATOR = re.compile(r"[();|&]+|do|done")
_ASSIGNMENT = re.compile(r"^\w+=")


@dataclass(frozen=True)
class Block:
    """A fenced block: the document's path below the root, the fence's line, what it holds."""

    document: str
    line: int
    language: str
    text: str


@dataclass(frozen=True)
class Command:
    """A program's call in a document; ``whole`` where it stands in a block, as it would be run."""

    document: str
    line: int
    words: tuple[str, ...]
    whole: bool

    def __str__(self) -> str:
        return f"{self.document}:{self.line} {shlex.join(self.words)}"


def documents() -> list[Path]:
    """All Markdown files under version control."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def blocks(document: Path) -> Iterator[Block]:
    """The fenced blocks of a document, in its order."""
    name, start, language, held = str(document.relative_to(ROOT)), 0, "", []
    for number, line in enumerate(document.read_text(encoding="utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if fence and not start:
            start, language, held = number, fence[1], []
        elif fence:
            yield Block(name, start, language, "\n".join(held))
            start = 0
        elif start:
            held.append(line)
    assert not start, f"{name}:{start}: the block has no end"


def block_commands(block: Block) -> list[Command]:
    """The calls in a shell block; of a loop those of its first turn."""
    return [
        Command(block.document, block.line, words, whole=True)
        for line in _lines(_unrolled(block.text))
        for words in _calls(line)
    ]


def inline_commands(document: Path, program: re.Pattern[str]) -> list[Command]:
    """What stands in backticks and begins with a ``program``; parts may be left out of it."""
    prose = _prose(document)
    name = str(document.relative_to(ROOT))
    return [
        Command(name, prose.count("\n", 0, code.start()) + 1, words, whole=False)
        for code in _INLINE.finditer(prose)
        if program.match(code[1])
        for words in _calls(" ".join(code[1].split()))
    ]


def links(document: Path) -> list[str]:
    """Targets of the document's links and pictures, those to other hosts left out."""
    return [target for target in _LINK.findall(_prose(document)) if not re.match(r"\w+:", target)]


def anchors(document: Path) -> set[str]:
    """The names by which GitHub and mkdocs reach the document's headings."""
    headings = _HEADING.findall(_prose(document))
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


def _prose(document: Path) -> str:
    """The document with as many lines, its fenced blocks empty."""
    text = document.read_text(encoding="utf-8")
    return _BLOCK.sub(lambda block: "\n" * block[0].count("\n"), text)


def _unrolled(text: str) -> str:
    for variable, value in _LOOP.findall(text):
        text = re.sub(rf"\$(?:{variable}\b|{{{variable}}})", value, text)
    return text


def _lines(text: str) -> Iterator[str]:
    """Logical lines: continued ones joined, the texts of here-documents left out."""
    waiting = text.replace("\\\n", " ").splitlines()
    while waiting:
        line = waiting.pop(0)
        while line.count('"') % 2 and waiting:
            line += " " + waiting.pop(0)
        yield line
        for end in _HEREDOC.findall(line):
            while waiting and waiting.pop(0) != end:
                pass


def _calls(line: str) -> Iterator[tuple[str, ...]]:
    """The programs that a line calls, each with its arguments, without its redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    call: list[str] = []
    words = iter([*lexer, ";"])
    for word in words:
        if _REDIRECTION.fullmatch(word):
            next(words)
        elif _SEPARATOR.fullmatch(word):
            if called := _without_prefixes(call):
                yield tuple(called)
            call = []
        else:
            call.append(word)


def _without_prefixes(call: list[str]) -> list[str]:
    """Without assignments and ``nice``, which change nothing of what is called."""
    while call and _ASSIGNMENT.match(call[0]):
        call = call[1:]
    if call and call[0] == "nice":
        call = call[3:] if call[1:2] == ["-n"] else call[1:]
    return [] if call and call[0] == "for" else call
