# SPDX-License-Identifier: Apache-2.0
"""From a trained model to a candidate of the store: scored, judged, described."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import medreasoner_infer
from medreasoner_infer.atomic import write_durably
from medreasoner_infer.models.registry import EMBEDDED
from medreasoner_infer.models.store import (
    Candidate,
    Provenance,
    ReasonerStore,
    live_reasoner,
)
from medreasoner_infer.reasoners.factory import load_transformers_reasoner
from medreasoner_infer.reasoners.weights import weights_sha256
from medreasoner_training.finetune.card import model_card
from medreasoner_training.finetune.expectation import sd_name
from medreasoner_training.finetune.progress_writer import ProgressWriter
from medreasoner_training.finetune.scoring import held_out_of, mean_iou, score_reasoner
from medreasoner_training.finetune.tunable import TunableReasoner
from medreasoner_training.gate import GateReport, ModelScores, PairedScores, decide

if TYPE_CHECKING:
    from datasets import Dataset

    from medreasoner_infer.reasoners.base import Reasoner
    from medreasoner_infer.segmenters.base import Segmenter
    from medreasoner_training.finetune.preparation import Prepared

REPORT_FILE = "gate_report.json"


def compare_with_live(
    prepared: Prepared, trained: TunableReasoner, progress: ProgressWriter
) -> GateReport:
    """Let candidate and live reasoner answer all held-out samples and ask the gate.

    The attempt is counted before anybody sees what came out. A report that a former start of the
    run left is kept while the same model is live, or the candidate itself.

    Raises:
        ServiceError: a model cannot be loaded or cannot answer.
    """
    path = prepared.run_dir / REPORT_FILE
    if path.is_file():
        report = GateReport.read(path)
        unchanged = live_name(prepared.store) in (report.live, prepared.record.candidate)
        if unchanged and report.attempt is not None:
            return report
    from medreasoner_training.finetune.training import segmenter_of

    live = live_name(prepared.store)
    splits = [prepared.validation, *([] if prepared.former is None else [prepared.former])]
    score = partial(_scores, splits, segmenter_of(prepared.config), progress)
    candidate = score(load_trained(prepared, trained), prepared.record.candidate)
    compared = score(live_reasoner(prepared.store, device=prepared.config.run.device)(), live)
    held_out, *former = map(held_out_of, splits)
    record = prepared.record
    report = decide(
        held_out,
        candidate[0],
        compared[0],
        prepared.config.gate,
        PairedScores(former[0], candidate[1], compared[1]) if former else None,
        attempt=prepared.store.count_attempt(record.fingerprint, record.candidate),
    )
    progress.evaluated(mean_iou(candidate[0], held_out))
    write_durably(path, json.dumps(report.to_dict(), indent=2) + "\n")
    return report


def _scores(
    splits: Sequence[Dataset],
    segmenter: Segmenter | None,
    progress: ProgressWriter,
    reasoner: Reasoner,
    name: str,
) -> list[ModelScores]:
    """What a reasoner scores on the held-out rows of the site, and of the former site if any."""

    def on_scored(done: int, of: int) -> None:
        progress.report(progress.latest.state, f"{name} answered {done} of {of} samples.")

    return [
        score_reasoner(reasoner, rows, name=name, segmenter=segmenter, on_scored=on_scored)
        for rows in splits
    ]


def load_trained(prepared: Prepared, trained: TunableReasoner) -> Reasoner:
    """The candidate as it will be served."""
    settings = trained.settings
    return load_transformers_reasoner(
        trained.folder,
        device=prepared.config.run.device,
        adapter=trained.adapter,
        input_size=settings.input_size,
        prompt=settings.template,
        name=prepared.record.candidate,
    )


def live_name(store: ReasonerStore) -> str:
    """What answers now, by the name that gate reports use."""
    live = store.live()
    return EMBEDDED if live is None else live.name


def finish_candidate(prepared: Prepared, trained: TunableReasoner, report: GateReport) -> str:
    """Add the candidate to the store and promote or refuse it; returns its name.

    Raises:
        LiveChangedError: another model went live since the comparison.
        CandidateRefusedError: the store cannot take the candidate.
    """
    store, config, name = prepared.store, prepared.config, prepared.record.candidate
    if name not in store.names():
        _add(prepared, trained, report)
    live = store.live()
    if not config.promotion.promote or (live is not None and live.name == name):
        return name
    if report.promote:
        expected = None if report.live == EMBEDDED else report.live
        store.promote(
            name, by=config.promotion.by, reasons=report.sentences, expected_live=expected
        )
    else:
        store.refuse(name, by=config.promotion.by, reasons=report.sentences)
    return name


def _add(prepared: Prepared, trained: TunableReasoner, report: GateReport) -> Candidate:
    folder = trained.folder if trained.adapter is None else trained.adapter
    card = model_card(prepared.record, prepared.config, report)
    (folder / "README.md").write_text(card, encoding="utf-8")
    return prepared.store.add(
        folder, provenance(prepared, trained, report), name=prepared.record.candidate
    )


def provenance(prepared: Prepared, trained: TunableReasoner, report: GateReport) -> Provenance:
    """Where the candidate comes from."""
    base = prepared.record.base
    if trained.adapter is None and prepared.record.parent is not None:
        base = prepared.store.candidate(prepared.record.parent).provenance.base
    return Provenance(
        base=base,
        data_manifest_sha256=prepared.record.data_manifest_sha256,
        code_version=medreasoner_infer.__version__,
        seed=prepared.config.run.seed,
        config=prepared.record.config,
        metrics=_metrics(prepared, report),
        parent=prepared.record.parent,
        base_weights_sha256=None if trained.adapter is None else weights_sha256(trained.folder),
    )


def _metrics(prepared: Prepared, report: GateReport) -> dict[str, float]:
    """Means of both models, and the patients' spread, by which the next run tells its power."""
    means = {
        f"{line.metric}_{which}": value
        for line in report.overall
        for which, value in (("candidate", line.candidate_mean), ("live", line.live_mean))
    }
    spread = report.patient_sd
    return means | ({} if spread is None else {sd_name(prepared.config): spread})
