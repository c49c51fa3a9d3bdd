# SPDX-License-Identifier: Apache-2.0
"""What the server counts and times, for Prometheus: no question, no reader, no study, no image."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from medreasoner_infer.hooks import Work
from medreasoner_infer.result import InferenceResult
from medreasoner_infer.types import ModelIdentity

RECORD = "record"
STAGES: dict[Work, str] = {
    Work.ANSWER: "reasoner",
    Work.SEARCH: "search",
    Work.SLICE: "segmenter",
    Work.PROPAGATION: "propagation",
}
_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

Models = Callable[[], dict[str, ModelIdentity | None]]


class Measures:
    """Counters and histograms of one app, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._waited = Histogram(
            "medreasoner_wait_seconds",
            "Waiting for a place among the questions, or for the device, by what for.",
            ["stage"],
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        self._worked = Histogram(
            "medreasoner_stage_seconds",
            "One piece of work: an answer, a part of a search, a slice's mask, a record.",
            ["stage"],
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        self._answers = Counter(
            "medreasoner_answers", "Recorded.", ["kind", "outcome"], registry=self.registry
        )
        self._faults = Counter(
            "medreasoner_faults",
            "Questions and clicks that ended without an answer, by the fault's kind.",
            ["kind"],
            registry=self.registry,
        )
        self.gauge("medreasoner_device_memory_bytes", "Allocated on the first GPU.", _gpu_bytes)

    def gauge(self, name: str, meaning: str, value: Callable[[], float]) -> None:
        """Tell ``value()`` at each look."""
        Gauge(name, meaning, registry=self.registry).set_function(value)

    def models(self, models: Models) -> None:
        """Tell at each look which weights are loaded, by what they are for."""
        self.registry.register(_ModelInfo(models))

    def waited(self, stage: str, seconds: float) -> None:
        """Count one wait."""
        self._waited.labels(stage).observe(seconds)

    @contextmanager
    def working(self, stage: str) -> Iterator[None]:
        """Time the block as one piece of work."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._worked.labels(stage).observe(time.perf_counter() - started)

    @contextmanager
    def faults(self) -> Iterator[None]:
        """Count what the block raises, by its type alone."""
        try:
            yield
        except Exception as error:
            self._faults.labels(type(error).__name__).inc()
            raise

    def answered(self, result: InferenceResult) -> None:
        """Count one answer."""
        self._answers.labels(result.kind, result.outcome).inc()


class _ModelInfo(Collector):
    def __init__(self, models: Models) -> None:
        self._models = models

    def collect(self) -> Iterable[Metric]:
        """One metric for each model that is loaded."""
        family = InfoMetricFamily("medreasoner_model", "The weights that answer.", labels=["role"])
        for role, identity in self._models().items():
            if identity is not None:
                told = {
                    "name": identity.name,
                    "revision": identity.revision or "",
                    "weights_sha256": identity.weights_sha256 or "",
                }
                family.add_metric([role], told)
        return [family]


def _gpu_bytes() -> float:
    torch = sys.modules.get("torch")
    return 0.0 if torch is None or not torch.cuda.is_available() else torch.cuda.memory_allocated()
