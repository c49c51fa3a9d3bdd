# SPDX-License-Identifier: Apache-2.0
"""The app's settings, given to MONAI Label as ``--conf key value``, some by the environment.

Addresses may hold a password: a command line is shown to everybody on the machine, and MONAI
Label's own start logs it.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medreasoner_infer.addresses import addresses_in, is_usable_address, shown_address
from medreasoner_infer.errors import InputError
from monailabel_app.common.database_address import checked_database
from monailabel_app.common.fields import read_bool, read_int, read_text, shown
from monailabel_app.errors import SettingsError

if TYPE_CHECKING:
    from medreasoner_infer.pipeline import Pipeline

ADDRESS_VARIABLES = {
    "reasoner_url": "MEDREASONER_REASONER_URL",
    "orthanc_url": "MEDREASONER_ORTHANC_URL",
    "records_database": "MEDREASONER_RECORDS_DATABASE",
}
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
_OWN_TO_MONAI_LABEL = frozenset({"server_mode"})


@dataclass(frozen=True)
class AppSettings:
    """Everything that ``--conf`` may set; each field is a key of the same name.

    Attributes:
        reasoner: a registered reasoner, a folder, or a Hugging Face id.
        segmenter: a registered segmenter, maybe from a path of its own (``NAME@PATH``), a folder,
            or a Hugging Face id.
        device: ``auto``, ``cpu``, ``mps``, ``cuda`` or ``cuda:N``.
        reasoner_url: address of a vLLM server that serves the reasoner; several with commas between
            are replicas.
        adapter: folder of a LoRA adapter for a reasoner that is loaded here.
        preload: load the models at start instead of at the first question.
        parallel_questions: questions that are worked at at a time, each with its volume in memory;
            they wait for the reasoner's server, or take turns on the device.
        max_waiting: questions that may wait besides; more get a 503.
        volume_cache_mb: memory for volumes kept between questions.
        keep_masks_mb: disk for the masks kept beside the records; the oldest that no reader
            confirmed go first. 0 keeps none.
        data_dir: folder of the records; by default ``.medreasoner`` inside the studies, or
            ``~/.medreasoner/dicomweb/<hash>`` for a DICOMweb server.
        records_database: address of a PostgreSQL database for the records, without a password, in
            place of a file in ``data_dir``.
        orthanc_url: address of the REST API of an Orthanc that serves the studies; with it the
            version of a result that a newer one replaces is deleted there.
        train_command: command line of the trainer, which a run's folder is appended to, for another
            environment or several GPUs; by default ``python -m medreasoner_training.finetune``.
        train_configs: folder with YAML configurations of training besides the shipped ones.
    """

    reasoner: str = "embedded"
    segmenter: str = "embedded"
    device: str = "auto"
    reasoner_url: str | None = None
    adapter: str | None = None
    preload: bool = False
    parallel_questions: int = 16
    max_waiting: int = 32
    volume_cache_mb: int = 2048
    keep_masks_mb: int = 10240
    data_dir: Path | None = None
    records_database: str | None = None
    orthanc_url: str | None = None
    train_command: str | None = None
    train_configs: Path | None = None

    @classmethod
    def from_conf(cls, conf: Mapping[str, Any], defaults: AppSettings | None = None) -> AppSettings:
        """Read ``--conf`` pairs over the environment's values over ``defaults``.

        Addresses may hold a password, and MONAI Label writes ``--conf`` into its log; so they are
        taken from the environment as well (:data:`ADDRESS_VARIABLES`).

        Raises:
            SettingsError: if a key is unknown or a value cannot be used.
        """
        conf = {**addresses_of_environment(), **conf}
        _refuse_unknown_keys(conf)
        try:
            read = _read(conf)
        except InputError as error:
            raise SettingsError(f"--conf: {error}") from error
        changes = {key: value for key, value in read.items() if value is not None}
        return dataclasses.replace(defaults or cls(), **changes)

    def make_pipeline(self) -> Pipeline:
        """The models that these settings name; weights are loaded at first use.

        Raises:
            UnknownModelError: if a name means nothing.
        """
        from medreasoner_infer.pipeline import Pipeline

        return Pipeline.from_registry(
            self.reasoner,
            self.segmenter,
            device=self.device,
            reasoner_url=self.reasoner_url,
            adapter=self.adapter,
        )

    def __post_init__(self) -> None:
        if not _DEVICE.fullmatch(self.device):
            raise SettingsError(
                f"--conf device is {shown(self.device)}; expected auto, cpu, mps, cuda or cuda:N."
            )
        if self.records_database is not None:
            checked_database(self.records_database)
        addresses = [("orthanc_url", self.orthanc_url)]
        addresses += [("reasoner_url", each) for each in addresses_in(self.reasoner_url or "")]
        for key, address in addresses:
            if address and not is_usable_address(address):
                raise SettingsError(
                    f"--conf {key} is {shown_address(address)}; expected an address that starts "
                    "with http:// or https://."
                )


def addresses_of_environment() -> dict[str, str]:
    """The addresses that :data:`ADDRESS_VARIABLES` hold."""
    named = {key: os.environ.get(name, "") for key, name in ADDRESS_VARIABLES.items()}
    return {key: address for key, address in named.items() if address}


def _read(conf: Mapping[str, Any]) -> dict[str, Any]:
    texts = (
        "reasoner", "segmenter", "device", "reasoner_url", "adapter", "orthanc_url",
        "train_command", "records_database",
    )  # fmt: skip
    numbers = ("max_waiting", "volume_cache_mb", "keep_masks_mb")
    return {
        **{key: read_text(conf, key) for key in texts},
        **{key: read_int(conf, key, minimum=0) for key in numbers},
        "parallel_questions": read_int(conf, "parallel_questions", minimum=1),
        "preload": read_bool(conf, "preload"),
        "data_dir": _folder(conf, "data_dir"),
        "train_configs": _folder(conf, "train_configs"),
    }


def _folder(conf: Mapping[str, Any], key: str) -> Path | None:
    text = read_text(conf, key)
    return None if text is None else Path(text).expanduser()


def _refuse_unknown_keys(conf: Mapping[str, Any]) -> None:
    known = [field.name for field in dataclasses.fields(AppSettings)]
    for key in conf:
        if key in known or key in _OWN_TO_MONAI_LABEL:
            continue
        close = difflib.get_close_matches(key, known, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise SettingsError(f"--conf {key!r} is unknown; expected one of {', '.join(known)}.{hint}")
