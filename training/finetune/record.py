# SPDX-License-Identifier: Apache-2.0
"""What a run was begun with: ``run.json``, so that a resumed run is the same run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import TypeAdapter, ValidationError

from medreasoner_infer.atomic import write_durably
from medreasoner_training.finetune.config import config_from_dict
from medreasoner_training.finetune.errors import RunChangedError
from medreasoner_training.finetune.identity import what_is_learnt
from medreasoner_training.gate.config import without_replaced

RECORD_FILE = "run.json"


@dataclass(frozen=True)
class RunRecord:
    """The identity of a run.

    Attributes:
        candidate: name under which the store will hold the result.
        base: what the tuned model is based on.
        parent: the store's candidate that is tuned, if it is one.
        config: the configuration.
        data_manifest_sha256: of the data set.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    candidate: str
    base: str
    parent: str | None
    config: dict[str, Any]
    data_manifest_sha256: str

    @property
    def fingerprint(self) -> str:
        """Stands for the run where its attempts are counted; a resumed run has the same one."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


_SCHEMA = TypeAdapter(RunRecord)


def read_record(run_dir: Path) -> RunRecord | None:
    """The record of a run that was begun before; ``None`` for a new one.

    Raises:
        RunChangedError: the file is damaged.
    """
    path = run_dir / RECORD_FILE
    try:
        return _SCHEMA.validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise RunChangedError(
            f"{path} is damaged ({type(error).__name__}). Start a new run in another folder."
        ) from error


def write_record(run_dir: Path, record: RunRecord) -> None:
    """Write ``run.json``, once, before anything is trained."""
    write_durably(run_dir / RECORD_FILE, json.dumps(asdict(record), indent=2) + "\n")


def require_same(record: RunRecord, config: dict[str, Any], data_manifest_sha256: str) -> None:
    """Refuse to go on with another configuration or other data than the run was begun with.

    Settings that change the memory of a step, or what is shown of it, may differ.

    Raises:
        RunChangedError: naming what differs.
        FineTuneConfigError: the recorded configuration means nothing to this version.
    """
    begun_with = config_from_dict(_in_today_s_terms(record.config)).to_dict()
    was, now = what_is_learnt(begun_with), what_is_learnt(config)
    differing = [
        f"{section} (was {begun_with[section]}, is {config[section]})"
        for section in now
        if was[section] != now[section]
    ]
    if record.data_manifest_sha256 != data_manifest_sha256:
        differing.append("the data set")
    if differing:
        raise RunChangedError(
            f"This run was begun with other settings or data: {'; '.join(differing)}. Restore "
            "them, or start a new run in another folder."
        )


def _in_today_s_terms(config: Mapping[str, Any]) -> dict[str, Any]:
    """What an older version left out has its default; today's gate judges what it began."""
    return {**config, "gate": without_replaced(config.get("gate", {}))}
