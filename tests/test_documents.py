# SPDX-License-Identifier: Apache-2.0
"""What the documents tell to run or to look at is there: commands, options, files, headings.

Commands are read by the programs' own parsers; nothing of them is run.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest
import typer

pytest.importorskip("monailabel")

from monailabel.main import Main
from support.documents import (
    ROOT,
    SHELL,
    Command,
    anchors,
    block_commands,
    blocks,
    documents,
    inline_commands,
    links,
)

from monailabel_app.cli.app import app
from monailabel_app.settings import AppSettings

DOCUMENTS = documents()
ELLIPSIS = "…"
OURS = re.compile(
    r"(medreasoner|make|python|\.venv/bin/python|pip install|accelerate"
    r"|monailabel start_server(?= --))"
    r"(?= |$)|(\.ci|benchmarks|scripts)/\w|deploy/\w+\.sh"
)
# Programs of others, whose options cannot be asked for here.
OTHERS = frozenset({
    "cp", "createdb", "createuser", "curl", "docker", "echo", "ln", "mkdir", "pg_dump",
    "pg_restore", "pre-commit", "psql", "rm", "source", "sudo", "umask", ".venv-vllm/bin/vllm",
})  # fmt: skip
NOT_OURS = frozenset({"json.tool", "pytest"})
# Folders that a reader of the documents has or has made when these commands come.
THERE = (
    "demo_studies",
    "report",
    "report_direct",
    "report_sam2",
    "report_embedded",
    "report_litemedsam",
    "run",
    "studies",
    "medreasoner_output",
)
FILES_THERE = ("medreasoner_output/answer_1.json",)


def told_commands(document: Path) -> list[Command]:
    """All commands of a document: in its blocks, then in its sentences."""
    shell = [block for block in blocks(document) if block.language in SHELL]
    in_blocks = [command for block in shell for command in block_commands(block)]
    return in_blocks + inline_commands(document, OURS)


COMMANDS = [command for document in DOCUMENTS for command in told_commands(document)]


class ArgumentsReadError(Exception):
    """Raised where a program, having read its arguments, would go to work."""


def go_to_work(*_: object, **__: object) -> NoReturn:
    raise ArgumentsReadError


def read_by_typer(tree: Any, arguments: Sequence[str], *, whole: bool) -> None:
    """Let a command line of Typer's read ``arguments``; ``--help`` asks for no missing ones."""
    command = tree
    for word in arguments:
        command = getattr(command, "commands", {}).get(word, command)
    command.callback = go_to_work
    if whole and "--help" not in arguments:
        with pytest.raises(ArgumentsReadError):
            tree.main(list(arguments))
        return
    with pytest.raises(SystemExit) as ended:
        tree.main([*(word for word in arguments if word != ELLIPSIS), "--help"])
    assert ended.value.code == 0


def read_by_program(monkeypatch, run: Callable[[], object], arguments: Sequence[str]) -> None:
    """Start one of our Python programs, up to where it has read its command line."""
    parse = argparse.ArgumentParser.parse_known_args

    def parse_and_end(parser, args=None, namespace=None):
        _, unknown = parse(parser, args, namespace)
        assert not unknown, unknown
        raise ArgumentsReadError

    def read_and_end(function: Callable[..., object]) -> None:
        single = typer.Typer()
        single.command()(function)
        read_by_typer(typer.main.get_command(single), arguments, whole=True)
        raise ArgumentsReadError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", parse_and_end)
    monkeypatch.setattr(typer, "run", read_and_end)
    monkeypatch.setattr(sys, "argv", ["program", *arguments])
    with pytest.raises(ArgumentsReadError):
        run()


def check_medreasoner(command: Command, _: pytest.MonkeyPatch) -> None:
    whole = command.whole and ELLIPSIS not in command.words
    read_by_typer(typer.main.get_command(app), command.words[1:], whole=whole)


def check_make(command: Command, _: pytest.MonkeyPatch) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for name in (word.partition("=")[0] for word in command.words[1:] if "=" in word):
        assert re.search(rf"^{name} \?=", makefile, re.MULTILINE), f"no variable {name}"
    installed = [f"--old-file=.venv/{stamp}" for stamp in (".installed", ".installed-run")]
    tried = ["make", "--dry-run", *installed, *command.words[1:]]
    done = subprocess.run(tried, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def check_python(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    words = command.words[1:] if Path(command.words[0]).name == "python" else command.words
    if words[0] in {"-", "-c"}:
        return
    if words[0] != "-m":
        path = ROOT / words[0]
        assert path.is_file()
        monkeypatch.syspath_prepend(path.parent)
        if len(words) > 1:
            run_script = partial(runpy.run_path, str(path), run_name="__main__")
            read_by_program(monkeypatch, run_script, words[1:])
        return
    module, arguments = words[1], words[2:]
    if module == "monailabel.main":
        check_monailabel(replace(command, words=tuple(words[1:])), monkeypatch)
        return
    assert importlib.util.find_spec(module) is not None
    if module in NOT_OURS or not arguments:
        return
    run_module = partial(runpy.run_module, module, run_name="__main__", alter_sys=True)
    read_by_program(monkeypatch, run_module, arguments)


def check_pip(command: Command, _: pytest.MonkeyPatch) -> None:
    extras = re.fullmatch(r"\.\[([\w,-]+)\]", command.words[-1])
    assert extras is not None
    declared = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    table = declared.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    for extra in extras[1].split(","):
        assert re.search(rf"^{extra} = \[", table, re.MULTILINE), f"no extra {extra}"


def check_monailabel(command: Command, _: pytest.MonkeyPatch) -> None:
    words = [word for word in command.words[1:] if word != ELLIPSIS]
    parser = Main().args_parser()
    if command.whole:
        told = parser.parse_args(words)
        assert (ROOT / told.app / "main.py").is_file()
        keys = [key for key, _ in told.conf or []]
    else:
        (subparsers,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
        known = subparsers.choices[words[0]]._option_string_actions
        assert {word for word in words if word.startswith("--")} <= set(known)
        keys = [after for word, after in itertools.pairwise(words) if word == "--conf"]
    for key in keys:
        assert key in AppSettings.__dataclass_fields__


def check_accelerate(command: Command, _: pytest.MonkeyPatch) -> None:
    words = command.words
    assert importlib.util.find_spec(words[words.index("-m") + 1]) is not None
    for option, file in itertools.pairwise(words):
        if option == "--config_file":
            assert list((ROOT / "training").rglob(file)), f"no file {file}"


def check_script(command: Command, _: pytest.MonkeyPatch) -> None:
    assert os.access(ROOT / command.words[0], os.X_OK)


def checks_of(command: Command) -> Callable[[Command, pytest.MonkeyPatch], None]:
    program = command.words[0]
    if program.startswith(("deploy/", "scripts/", ".ci/")) and not program.endswith(".py"):
        return check_script
    if program.startswith(("benchmarks/", "scripts/")):
        return check_python
    return {
        "medreasoner": check_medreasoner,
        "make": check_make,
        "python": check_python,
        "pip": check_pip,
        "accelerate": check_accelerate,
    }[Path(program).name]


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_command_is_one_that_its_program_takes(
    command: Command, monkeypatch, tmp_path, capsys
) -> None:
    if command.words[0] in OTHERS:
        return
    monkeypatch.chdir(tmp_path)
    for name in THERE:
        Path(name).mkdir()
    for name in FILES_THERE:
        Path(name).touch()
    checks_of(command)(command, monkeypatch)


def test_commands_are_found_in_blocks_and_in_sentences() -> None:
    """Lest the test above passes because it sees none."""
    seen = {(command.document, shlex.join(command.words)) for command in COMMANDS}
    assert ("README.md", "medreasoner models history") in seen
    assert ("README.md", "medreasoner models rollback") in seen
    assert ("docs/training_at_the_site.md", "medreasoner train --status") in seen
    assert ("CONTRIBUTING.md", "make docs") in seen


@pytest.mark.parametrize(
    "wrong",
    [
        "medreasoner frobnicate",
        "medreasoner serve --studies x --colour blue",
        "medreasoner serve --port 8000",
        "medreasoner serve --studies x --port 99999",
        "medreasoner models forget",
        "make demonstration",
        "make demo STUDY=x",
        "python -m medreasoner_training.nowhere",
        "python -m medreasoner_training.embedded.reasoner.train --out x --step 3 --nothing",
        "python benchmarks/ten_readers.py --nothing",
        "python benchmarks/nothing.py --data x",
        "pip install -e '.[nothing]'",
        "python -m monailabel.main start_server --app sample_apps/nothing --studies x",
        "python -m monailabel.main start_server --app sample_apps/radiology --studies x --conf n x",
        "monailabel start_server --app sample_apps/quickstart --studies x",
        "scripts/setup_nothing.sh",
    ],
)
def test_a_command_that_cannot_run_is_seen(wrong, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    command = Command("a.md", 1, tuple(shlex.split(wrong)), whole=True)
    refusals = (
        AssertionError, KeyError, SystemExit, OSError, ModuleNotFoundError, pytest.fail.Exception,
    )  # fmt: skip
    with pytest.raises(refusals):
        checks_of(command)(command, monkeypatch)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_link_leads_to_a_file_and_its_heading(document: Path) -> None:
    for link in links(document):
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_block_is_marked_as_what_it_is(document: Path) -> None:
    for block in blocks(document):
        if block.language == "python":
            compile(block.text, f"{block.document}:{block.line}", "exec")
        elif block.language not in SHELL:
            assert not any(OURS.match(line) for line in block.text.splitlines()), block
