# SPDX-License-Identifier: Apache-2.0
"""From what a user types for ``--reasoner`` or ``--segmenter`` to a :class:`ModelSpec`."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from medreasoner_infer.errors import UnknownModelError

ModelKind = Literal["reasoner", "segmenter"]

EMBEDDED = "embedded"
LIVE = "live"
UNKNOWN_LICENCE = "unknown: read the model's card before use"
UNKNOWN_NOTICE = "Not in the registry: the site answers for its licence. Not a medical device."
_HUGGING_FACE_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class ModelSpec:
    """Where a model's weights come from and how it must be used.

    ``source`` is a local folder or file, or a Hugging Face id. ``input_size`` is the side of the
    square image in model px (``None``: as the model's own folder says). ``prompt`` names a prompt
    template. ``config`` and ``filename`` are for SAM2 checkpoints.
    """

    name: str
    kind: ModelKind
    source: str
    licence: str
    notice: str | None = None
    revision: str | None = None
    input_size: int | None = None
    prompt: str | None = None
    config: str | None = None
    filename: str | None = None

    @property
    def is_local(self) -> bool:
        """Whether the weights are read from this machine's disk."""
        return Path(self.source).exists()


@functools.cache
def registered_models(kind: ModelKind) -> Mapping[str, ModelSpec]:
    """All registry entries of one kind by name; embedded sources become absolute paths."""
    import yaml

    package = resources.files("medreasoner_infer")
    table = yaml.safe_load(package.joinpath("models/registry.yaml").read_text(encoding="utf-8"))
    specs = {}
    for name, fields in table[f"{kind}s"].items():
        if fields["source"].startswith("embedded/"):
            fields["source"] = str(package.joinpath(fields["source"]))
        specs[name] = ModelSpec(name=name, kind=kind, **fields)
    return MappingProxyType(specs)


def resolve_model(kind: ModelKind, wanted: str) -> ModelSpec:
    """Find what ``wanted`` means: a registry name, a local path or a Hugging Face id.

    ``@REVISION`` behind a name or an id pins a Hugging Face commit or tag.

    Raises:
        UnknownModelError: if it is none of the three.
    """
    registered = registered_models(kind)
    if wanted in registered:
        return registered[wanted]
    path = Path(wanted).expanduser()
    if path.exists():
        return ModelSpec(
            path.name, kind, str(path.resolve()), UNKNOWN_LICENCE, notice=UNKNOWN_NOTICE
        )
    name, _, revision = wanted.partition("@")
    if revision and name in registered:
        return dataclasses.replace(registered[name], revision=revision)
    if _HUGGING_FACE_ID.fullmatch(name):
        return ModelSpec(
            name, kind, name, UNKNOWN_LICENCE, notice=UNKNOWN_NOTICE, revision=revision or None
        )
    raise UnknownModelError(
        f"{wanted!r} is no {kind} of the registry ({', '.join(registered)}), no existing path and "
        "no Hugging Face id (organisation/name, optionally @revision)."
    )


def served_reasoner(wanted: str) -> ModelSpec:
    """The reasoner that a vLLM server offers as ``wanted``, which need not be in the registry."""
    try:
        return resolve_model("reasoner", wanted)
    except UnknownModelError:
        return ModelSpec(wanted, "reasoner", wanted, UNKNOWN_LICENCE, notice=UNKNOWN_NOTICE)
