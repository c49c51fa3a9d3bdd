# SPDX-License-Identifier: Apache-2.0
"""Change one thing of the code at a time and see whether the quick tests of that code notice.

Run: ``make mutants``, or ``python scripts/mutants.py --help``. Cosmic Ray makes the changes, in a
copy of the working tree; ``mutants.yaml`` beside this file says where, which tests must notice, and
which changes make no difference. Of each area a sample is drawn, the same for the same seed and
code. Exit status: 0 if of each area at least ``--least`` per cent are killed.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import yaml
from cosmic_ray.commands import init
from cosmic_ray.config import serialize_config
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec, WorkItem

ROOT = Path(__file__).resolve().parents[1]
PLAN = Path(__file__).with_suffix(".yaml")
TIMEOUT_S = 300
# Slips that nobody makes and every test notices: a float shifted or raised to a power, identity in
# the place of order. They would only embellish the rate.
_SLIPS = re.compile(
    r"core/ReplaceBinaryOperator_(?!BitAnd_BitOr|BitOr_BitAnd)"
    r"(\w+_(Pow|Mod|[LR]Shift|Bit\w+)|(Pow|Mod|[LR]Shift|Bit\w+?)_\w+)"
    r"|core/ReplaceComparisonOperator_(?!Is_IsNot|IsNot_Is$)(\w+_(Is|IsNot)|(Is|IsNot)_\w+)"
)
# Not an operator but the mark of keyword-only arguments; and a check of lengths that are equal.
_NO_CHANGE = re.compile(r"\*,|strict=True")
# Module from the root, the line as changed, and its number.
Mutant = tuple[str, str, int]


def main() -> int:
    """Mutate the areas asked for, and tell of each what was killed."""
    plan = yaml.safe_load(PLAN.read_text(encoding="utf-8"))
    asked = _arguments(plan["areas"])
    equivalent = {(known["module"], known["line"]) for known in plan["equivalent"]}
    rates = []
    with ThreadPoolExecutor(asked.jobs) as pool:
        found = pool.map(lambda name: survivors(plan["areas"][name], asked), asked.areas)
        for name, (count, survived) in zip(asked.areas, found, strict=True):
            rest = [mutant for mutant in survived if mutant[:2] not in equivalent]
            total = count - len(survived) + len(rest)
            rates.append(100 * (total - len(rest)) / total)
            print(f"{name}: {total - len(rest)} of {total} killed, {rates[-1]:.1f} %", flush=True)
            for module, line, number in rest:
                print(f"  {module}:{number} survived as: {line}", flush=True)
    return int(min(rates) < asked.least)


def survivors(
    area: Mapping[str, Sequence[str]], asked: argparse.Namespace
) -> tuple[int, list[Mutant]]:
    """How many mutants of an area were tried, and those that its tests let through.

    Raises:
        CalledProcessError: the tests fail without a mutant, or Cosmic Ray does.
    """
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree, config, session = (Path(folder) / name for name in ("tree", "toml", "sqlite"))
        _copy_tree(tree)
        config.write_text(_config(area["tests"]), encoding="utf-8")
        modules = sorted(
            path
            for pattern in area["modules"]
            for path in tree.glob(pattern)
            if path.name not in area.get("except", ())
        )
        _run(tree, "compileall", "-q", "--invalidation-mode", "checked-hash", ".")
        _run(tree, "cosmic_ray.cli", "baseline", config)
        with use_db(session, WorkDB.Mode.create) as mutants:
            init(modules, mutants, {})
            drawn = _drawn(mutants.work_items, asked)
            mutants.clear()
            mutants.add_work_items(drawn)
        _run(tree, "cosmic_ray.cli", "exec", config, session)
        with use_db(session, WorkDB.Mode.open) as mutants:
            done = mutants.completed_work_items
            return len(done), sorted(
                _as_changed(item.mutations[0], result.diff, tree)
                for item, result in done
                if not result.is_killed
            )


def _arguments(areas: Mapping[str, object]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "areas", nargs="*", help=f"some of {', '.join(areas)}; all if none is named"
    )
    parser.add_argument("--sample", type=int, default=60, help="mutants of an area; 0 takes all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="areas at a time")
    parser.add_argument("--least", type=float, default=90.0)
    asked = parser.parse_args()
    asked.areas = asked.areas or list(areas)
    return asked


def _copy_tree(tree: Path) -> None:
    """What git knows or would take in, so that no run touches the tree that people work in."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)


def _config(tests: Sequence[str]) -> str:
    options = ["-x", "-q", "-m", "not slow", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options, *tests]
    return serialize_config(
        {
            "module-path": ".",
            "timeout": TIMEOUT_S,
            "test-command": shlex.join(command),
            "distributor": {"name": "local"},
        }
    )


def _run(tree: Path, module: str, *words: str | Path) -> None:
    """``python -m``, with Hypothesis's examples the same each time and without pytest's plugins."""
    changed = {"PYTHONPATH": str(tree), "CI": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", module, *map(str, words)]
    subprocess.run(command, cwd=tree, env=os.environ | changed, check=True)


def _drawn(mutants: Sequence[WorkItem], asked: argparse.Namespace) -> list[WorkItem]:
    """The sample, drawn by the places of mutants, as their ids differ from run to run."""
    useful = sorted((m for m in mutants if _is_useful(m.mutations[0])), key=_place)
    if not asked.sample or asked.sample >= len(useful):
        return useful
    return random.Random(asked.seed).sample(useful, asked.sample)


def _place(mutant: WorkItem) -> tuple[str, str, int]:
    spec = mutant.mutations[0]
    return spec.module_path.as_posix(), spec.operator_name, spec.occurrence


def _is_useful(mutant: MutationSpec) -> bool:
    """Whether it is no slip, and lies in code that runs and can make a difference."""
    return _SLIPS.fullmatch(mutant.operator_name) is None and not any(
        start <= mutant.start_pos < end for start, end in _without_effect(mutant.module_path)
    )


@cache
def _without_effect(module: Path) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Start and end, as (line, column), of annotations and of what ``_NO_CHANGE`` finds."""
    text = module.read_text(encoding="utf-8")
    nodes = list(ast.walk(ast.parse(text)))
    parts = [getattr(node, name, None) for node in nodes for name in ("annotation", "returns")]
    found = [
        ((part.lineno, part.col_offset), (part.end_lineno, part.end_col_offset))
        for part in parts
        if part is not None
    ]
    for number, line in enumerate(text.splitlines(), start=1):
        found += [((number, m.start()), (number, m.end())) for m in _NO_CHANGE.finditer(line)]
    return found


def _as_changed(mutant: MutationSpec, diff: str, tree: Path) -> Mutant:
    lines = [line[1:].strip() for line in diff.splitlines() if re.match(r"\+(?!\+\+ )", line)]
    module = Path(mutant.module_path).relative_to(tree).as_posix()
    return module, " ".join(lines) or "(without the line)", mutant.start_pos[0]


if __name__ == "__main__":
    sys.exit(main())
