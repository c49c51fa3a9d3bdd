# SPDX-License-Identifier: Apache-2.0
"""How many completions per second one core scores, directly and as TRL's trainer asks.

Run: ``python benchmarks/rewards.py``. The completions are drawn with a fixed seed: near misses, far
misses, malformed answers and refusals, with traces of 60 to 1200 characters, eight to a question.
As TRL asks, each term's function is called with a step's completions in turn, and the ground truths
are JSON texts.
``--official FOLDER``, a checkout of the paper's code, times its functions on the same completions,
by turns with ours as released.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from medreasoner_training.rewards import MODE_TERMS, RewardConfig, make_reward_functions, score

QUESTIONS = 625
ROLLOUTS = 8
STEP = 64
ROUNDS = 7


def draw_group(draw: random.Random) -> list[tuple[str, dict]]:
    """The rollouts of one question with their ground truth."""
    x1, y1 = draw.randint(0, 600), draw.randint(0, 600)
    x2, y2 = x1 + draw.randint(20, 200), y1 + draw.randint(20, 200)
    points = [[draw.randint(x1, x2), draw.randint(y1, y2)] for _ in range(2)]
    truth = {"bbox_2d": [x1, y1, x2, y2], "point_2d": points}
    return [(_completion(draw, [x1, y1, x2, y2], points), truth) for _ in range(ROLLOUTS)]


def _completion(draw: random.Random, true_box: list[int], points: list[list[int]]) -> str:
    spread = draw.choice((2, 30, 200))
    box, first, second = (
        [value + draw.randint(-spread, spread) for value in values]
        for values in (true_box, *points)
    )
    answer = json.dumps({"bbox": box, "points_1": first, "points_2": second})
    answer = draw.choice((answer,) * 8 + ("null", answer[:-4]))
    return f"<think>{'bright, ' * draw.randint(8, 150)}</think><answer>{answer}</answer>"


def completions_per_second(cases: list[tuple[str, dict]], mode: str, as_released: bool) -> float:
    start = time.process_time()
    for completion, truth in cases:
        score(completion, truth, mode, as_released)
    return len(cases) / (time.process_time() - start)


def completions_per_second_by_trl(
    cases: list[tuple[str, dict]], mode: str, as_released: bool
) -> float:
    """As TRL's trainer asks: one function a term, a step's completions at a time."""
    functions = make_reward_functions(RewardConfig(mode, as_released=as_released))
    steps = [
        ([completion for completion, _ in part], [json.dumps(truth) for _, truth in part])
        for part in (cases[start : start + STEP] for start in range(0, len(cases), STEP))
    ]
    start = time.process_time()
    for completions, truths in steps:
        for function in functions:
            function(completions=completions, ground_truth=truths)
    return len(cases) / (time.process_time() - start)


def official_scorer(checkout: Path, mode: str) -> Callable[[str, str], object]:
    """What the paper's code calls for one completion and the JSON text of its ground truth."""
    if mode == "base":
        return _module(checkout, "med_base").compute_score
    compute = _module(checkout, "med_grounding").compute_score
    return lambda completion, truth: compute(completion, truth, mode)


def _module(checkout: Path, name: str) -> ModuleType:
    """By its file: its package would import the whole of verl."""
    path = checkout / "verl" / "utils" / "reward_score" / f"{name}.py"
    if not path.is_file():
        raise typer.BadParameter(f"{path} is not there; give a checkout of the paper's code.")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def official_completions_per_second(
    cases: list[tuple[str, dict]], mode: str, checkout: Path
) -> float:
    """How many the paper's own scorer of a mode scores, by the process's CPU time."""
    scorer = official_scorer(checkout, mode)
    given = [(completion, json.dumps(truth)) for completion, truth in cases]
    start = time.process_time()
    for completion, truth in given:
        scorer(completion, truth)
    return len(cases) / (time.process_time() - start)


def main(
    official: Annotated[
        Path | None, typer.Option(help="Checkout of the paper's code, to be timed beside ours.")
    ] = None,
) -> None:
    """Score completions on one core and print how many a second."""
    draw = random.Random(0)
    cases = [case for _ in range(QUESTIONS) for case in draw_group(draw)]
    table = Table(
        *("mode", "as released", "called"),
        *("completions per CPU second (median)", "lowest", "highest"),
    )
    ways = {"score": completions_per_second, "as by TRL": completions_per_second_by_trl}
    for mode, as_released in itertools.product(MODE_TERMS, (False, True)):
        found: dict[str, list[float]] = {}
        for _ in range(ROUNDS):
            for way, measure in ways.items():
                found.setdefault(way, []).append(measure(cases, mode, as_released))
            if official is not None and as_released:
                rate = official_completions_per_second(cases, mode, official)
                found.setdefault("the paper's code", []).append(rate)
        for way, rates in found.items():
            figures = (statistics.median(rates), min(rates), max(rates))
            table.add_row(mode, str(as_released), way, *(f"{each:,.0f}" for each in figures))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
