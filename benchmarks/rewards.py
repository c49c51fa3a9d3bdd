# SPDX-License-Identifier: Apache-2.0
"""How many completions per second one core scores, directly and as TRL's trainer asks.

Run: ``python benchmarks/rewards.py``. The completions are drawn with a fixed seed: near misses, far
misses, malformed answers and refusals, with traces of 60 to 1200 characters. As TRL asks, each
term's function is called with a step's completions in turn, and the ground truths are JSON texts.
"""

from __future__ import annotations

import itertools
import json
import random
import statistics
import time

from rich.console import Console
from rich.table import Table

from medreasoner_training.rewards import MODE_TERMS, RewardConfig, make_reward_functions, score

COMPLETIONS = 5000
STEP = 64
ROUNDS = 7


def draw_case(draw: random.Random) -> tuple[str, dict]:
    """One completion and its ground truth."""
    x1, y1 = draw.randint(0, 600), draw.randint(0, 600)
    x2, y2 = x1 + draw.randint(20, 200), y1 + draw.randint(20, 200)
    points = [[draw.randint(x1, x2), draw.randint(y1, y2)] for _ in range(2)]
    truth = {"bbox_2d": [x1, y1, x2, y2], "point_2d": points}
    spread = draw.choice((2, 30, 200))
    box, first, second = (
        [value + draw.randint(-spread, spread) for value in values]
        for values in ([x1, y1, x2, y2], *points)
    )
    answer = json.dumps({"bbox": box, "points_1": first, "points_2": second})
    answer = draw.choice((answer,) * 8 + ("null", answer[:-4]))
    return f"<think>{'bright, ' * draw.randint(8, 150)}</think><answer>{answer}</answer>", truth


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


def main() -> None:
    """Score completions on one core and print how many a second."""
    draw = random.Random(0)
    cases = [draw_case(draw) for _ in range(COMPLETIONS)]
    table = Table(
        *("mode", "as released", "called"),
        *("completions per CPU second (median)", "lowest", "highest"),
    )
    ways = {"score": completions_per_second, "as by TRL": completions_per_second_by_trl}
    for mode, as_released, way in itertools.product(MODE_TERMS, (False, True), ways):
        rounds = [ways[way](cases, mode, as_released) for _ in range(ROUNDS)]
        figures = (statistics.median(rounds), min(rounds), max(rounds))
        table.add_row(mode, str(as_released), way, *(f"{figure:,.0f}" for figure in figures))
    Console().print(table)


if __name__ == "__main__":
    main()
