# SPDX-License-Identifier: Apache-2.0
"""How many completions per second one core scores.

Run: ``python benchmarks/rewards.py``. The completions are drawn with a fixed seed: near misses, far
misses, malformed answers and refusals, with traces of 60 to 1200 characters.
"""

from __future__ import annotations

import json
import random
import statistics
import time

from rich.console import Console
from rich.table import Table

from medreasoner_training.rewards import MODE_TERMS, score

COMPLETIONS = 5000
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


def main() -> None:
    """Score completions on one core and print how many a second."""
    draw = random.Random(0)
    cases = [draw_case(draw) for _ in range(COMPLETIONS)]
    table = Table("mode", "as released", "completions per CPU second (median)", "lowest", "highest")
    for mode in MODE_TERMS:
        for as_released in (False, True):
            rounds = [completions_per_second(cases, mode, as_released) for _ in range(ROUNDS)]
            figures = (statistics.median(rounds), min(rounds), max(rounds))
            table.add_row(mode, str(as_released), *(f"{figure:,.0f}" for figure in figures))
    Console().print(table)


if __name__ == "__main__":
    main()
