# SPDX-License-Identifier: Apache-2.0
"""From what a user types for ``--reasoner`` or ``--segmenter`` to a :class:`ModelSpec`."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from types import MappingProxyType

from medreasoner_infer.errors import UnknownModelError
from medreasoner_infer.types import UNKNOWN_LICENCE, ModelKind, ModelSpec

EMBEDDED = "embedded"
LIVE = "live"
UNKNOWN_NOTICE = "Not in the registry: the site answers for its licence. Not a medical device."
_HUGGING_FACE_ID = re.compile(r"[\w.-]+/[\w.-]+")


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

    ``@REVISION`` behind a name or an id pins a Hugging Face commit or tag. ``@PATH`` behind a name
    of the registry, absolute or beginning with ``./``, ``../`` or ``~``, takes the weights there.

    Raises:
        UnknownModelError: if it is none of the three.
    """
    registered = registered_models(kind)
    if wanted in registered:
        return registered[wanted]
    path = Path(wanted).expanduser()
    if path.exists():
        return _unregistered(kind, path.name, str(path.resolve()))
    name, _, revision = wanted.partition("@")
    if revision and name in registered:
        return _pinned(registered[name], revision)
    if _HUGGING_FACE_ID.fullmatch(name):
        return _unregistered(kind, name, name, revision or None)
    raise UnknownModelError(
        f"{wanted!r} is no {kind} of the registry ({', '.join(registered)}), no existing path and "
        "no Hugging Face id (organisation/name, optionally @revision)."
    )


def _pinned(spec: ModelSpec, where: str) -> ModelSpec:
    """A model of the registry at a commit or tag, or from a path of this machine."""
    if not where.startswith(("/", "./", "../", "~")):
        if Path(spec.source).is_absolute():
            raise UnknownModelError(
                f"{spec.name} comes with this package and has no revision {where!r}. Give the name "
                f"alone, or {spec.name}@ and a path that begins with /, ./, ../ or ~."
            )
        return dataclasses.replace(spec, revision=where)
    path = Path(where).expanduser()
    if not path.exists():
        raise UnknownModelError(f"{spec.name} was to be loaded from {where}, which does not exist.")
    return dataclasses.replace(spec, source=str(path.resolve()), revision=None)


def served_reasoner(wanted: str) -> ModelSpec:
    """The reasoner that a vLLM server offers as ``wanted``, which need not be in the registry."""
    try:
        return resolve_model("reasoner", wanted)
    except UnknownModelError:
        return _unregistered("reasoner", wanted, wanted)


def _unregistered(
    kind: ModelKind, name: str, source: str, revision: str | None = None
) -> ModelSpec:
    return ModelSpec(name, kind, source, UNKNOWN_LICENCE, UNKNOWN_NOTICE, revision)
