# SPDX-License-Identifier: Apache-2.0
"""``report.json``: what a run has shown, for programs and for the page."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medreasoner_infer.atomic import write_durably
from medreasoner_training.evaluation.faithfulness import Faithfulness
from medreasoner_training.evaluation.predictions import Prediction
from medreasoner_training.evaluation.protocols import OOD, OutOfDistribution, out_of_distribution
from medreasoner_training.evaluation.published import Published, published
from medreasoner_training.evaluation.summary import Summary, summarise
from medreasoner_training.gate import GateConfig

REPORT_NAME = "report.json"
SCHEMA_VERSION = 1
#: Fixed keys at the top, which other programs read: means over the questions with a target.
TOP = ("box_iou", "pdice_as_released", "dice")


@dataclass(frozen=True)
class Report:
    """A run with its figures.

    Attributes:
        run: the run's record: data, models, settings.
        summary: the figures.
        questions: all that were asked, absent targets too.
        licences: how many questions are of images under which licence.
        seconds: mean seconds of a question's answer and of its masks.
        config: of the intervals.
        published: the paper's figures.
        protocol: the same figures by what was held out from training, if that was asked for.
        faithfulness: whether reasoning and answers hold to the image, likewise.
    """

    run: Mapping[str, Any]
    summary: Summary
    questions: int
    licences: Mapping[str, int]
    seconds: Mapping[str, float]
    config: GateConfig
    published: Published
    protocol: OutOfDistribution | None = None
    faithfulness: Faithfulness | None = None

    def to_dict(self) -> dict[str, Any]:
        """The content of ``report.json``."""
        values, summary = self.summary.overall.values, asdict(self.summary)
        top = {name: values[name].mean if name in values else None for name in TOP}
        return {
            **top,
            "n": self.summary.overall.n,
            "schema_version": SCHEMA_VERSION,
            "questions": self.questions,
            **self.run,
            **summary,
            "licences": dict(self.licences),
            "seconds": dict(self.seconds),
            "intervals": {
                "confidence": self.config.confidence,
                "resamples": self.config.resamples,
                "seed": self.config.seed,
                "drawn": "patients",
            },
            "protocol": None if self.protocol is None else {"name": OOD, **asdict(self.protocol)},
            "faithfulness": None if self.faithfulness is None else self.faithfulness.to_dict(),
            "published": asdict(self.published),
        }


def make_report(
    run: Mapping[str, Any],
    predictions: Sequence[Prediction],
    config: GateConfig,
    held_out_super_categories: Sequence[str] = (),
) -> Report:
    """The figures of a run's predictions.

    Args:
        run: its record.
        predictions: all of them.
        config: confidence, resamples and seed of the intervals.
        held_out_super_categories: from the model's training; none asks for no protocol.

    Raises:
        EvaluationRunError: the run has no question of one of them.
    """
    held_out = held_out_super_categories
    count = len(predictions)
    return Report(
        run=run,
        summary=summarise(predictions, config),
        questions=count,
        licences=dict(Counter(each.licence for each in predictions if each.licence)),
        seconds={
            "reasoner": round(sum(each.reason_s for each in predictions) / count, 3),
            "segmenter": round(sum(each.segment_s for each in predictions) / count, 3),
        },
        config=config,
        published=published(),
        protocol=out_of_distribution(predictions, held_out, config) if held_out else None,
    )


def write_report(report: Report, folder: Path) -> Path:
    """Write ``report.json``, whole or not at all."""
    path = folder / REPORT_NAME
    text = json.dumps(report.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
    write_durably(path, text + "\n")
    return path
