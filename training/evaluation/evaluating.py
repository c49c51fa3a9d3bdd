# SPDX-License-Identifier: Apache-2.0
"""A run from the data set to the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from medreasoner_training.evaluation.checked import faithfulness_of_run
from medreasoner_training.evaluation.page import write_page
from medreasoner_training.evaluation.picked import picked, pictured
from medreasoner_training.evaluation.pictures import Case
from medreasoner_training.evaluation.report import Report, make_report, write_report
from medreasoner_training.evaluation.running import OnAnswered, Run, predict
from medreasoner_training.gate import GateConfig


def evaluate(
    run: Run,
    config: GateConfig,
    on_answered: OnAnswered | None = None,
    held_out_super_categories: Sequence[str] = (),
    faithfulness: int = 0,
) -> Report:
    """Answer what is still to be answered, and write ``predictions.parquet`` and both reports.

    Args:
        run: data set, models, settings and folder.
        config: confidence, resamples and seed of the intervals.
        on_answered: called with (questions done, all questions).
        held_out_super_categories: whose figures are told apart, see :mod:`.protocols`.
        faithfulness: so many answers are checked as :mod:`.faithfulness` says; 0 checks none.

    Raises:
        EvaluationRunError: the folder holds another evaluation, another process writes into it, or
            there is no question of a held-out super-category.
        EvaluationDataError: a row cannot be used, or there is none.
        ServiceError: a model cannot answer now.
        MissingExtraError: a package that measures or writes is not installed.
    """
    predictions = predict(run, on_answered)
    told = {**run.record(), "unpinned": list(run.unpinned)}
    report = make_report(told, predictions, config, held_out_super_categories)
    if faithfulness:
        checked = faithfulness_of_run(run, predictions, faithfulness, on_answered)
        report = replace(report, faithfulness=checked)

    def cases(indices: Sequence[int]) -> Iterator[Case]:
        places = run.places
        return run.cases([places[index] for index in indices])

    pictures = pictured(picked(predictions), cases, run.segmenter)
    write_page(report, predictions, pictures, run.folder)
    write_report(report, run.folder)
    return report
