# SPDX-License-Identifier: Apache-2.0
"""Making a reasoner from a source, without a registry. Engines are imported only when asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from medreasoner_infer.addresses import addresses_in
from medreasoner_infer.reasoners.families import ModelFamily, family_in, served_family
from medreasoner_infer.reasoners.prompts import (
    AS_THE_MODEL_SAYS,
    REASONING_PROMPT,
    Asking,
    PromptFile,
    PromptTemplate,
    in_prompting,
    load_prompt_file,
    named_prompt,
    trained_further,
)
from medreasoner_infer.types import UNKNOWN_LICENCE, ModelIdentity

if TYPE_CHECKING:
    from medreasoner_infer.reasoners.server_link import ReasonerLimits
    from medreasoner_infer.reasoners.transformers_engine import TransformersReasoner
    from medreasoner_infer.reasoners.vllm_engine import VllmReasoner


def load_transformers_reasoner(
    source: str | Path,
    revision: str | None = None,
    *,
    device: str = "auto",
    adapter: str | Path | None = None,
    input_size: int | None = None,
    prompt: str | PromptTemplate | None = None,
    asking: Asking = AS_THE_MODEL_SAYS,
    name: str | None = None,
    licence: str = UNKNOWN_LICENCE,
    notice: str | None = None,
) -> TransformersReasoner:
    """Load a reasoner into this process.

    Args:
        source: folder of the model, or its Hugging Face id.
        revision: commit, tag or branch of the Hugging Face repository.
        device: ``auto`` (CUDA, then Apple's MPS, then CPU), or a torch device.
        adapter: folder of a LoRA adapter, merged into the weights.
        input_size: side of the square image in reasoner px; by default as the model's
            ``prompt.json`` says, else the size next to 840 px that its family's processor keeps.
        prompt: a built-in name or a template; by default as ``prompt.json`` says, else
            ``reasoning``.
        asking: what differs from that in this run.
        name: what the identity calls the model; by default the source's last part.
        licence: of the weights, for the identity.
        notice: what a user must know of the weights, for the identity.

    Raises:
        UnknownFamilyError: if it is not known how such a model writes coordinates.
        ImageSizeChangedError: if its processor would change the image's size.
        ModelUnavailableError: if the weights are missing or cannot be loaded, or what goes with
            them (a calibration, kinds of picture) is damaged.
        MissingExtraError: if an adapter is given and ``peft`` is not installed.
        InputError: if there is no prompt of that name, or it does not fit the family.
    """
    from medreasoner_infer.reasoners.calibration import calibration_of
    from medreasoner_infer.reasoners.picture_kind import kinds_of_model
    from medreasoner_infer.reasoners.transformers_engine import TransformersReasoner
    from medreasoner_infer.reasoners.transformers_loading import load_model
    from medreasoner_infer.reasoners.weights import locate_adapter, locate_model, weights_sha256

    folder = locate_model(str(source), revision)
    adapter_folder = None if adapter is None else locate_adapter(Path(adapter))
    settings = served_settings(
        load_prompt_file(folder.path), prompt, input_size, asking, family=family_in(folder.path)
    )
    if adapter_folder is not None:
        settings = trained_further(settings)
    loaded = load_model(folder.path, settings.input_size, device=device, adapter=adapter_folder)
    hashed = (folder.path,) if adapter_folder is None else (folder.path, adapter_folder)
    digest = weights_sha256(*hashed)
    identity = ModelIdentity(
        name=name or Path(source).name,
        source=str(source) if adapter is None else f"{source} + {adapter}",
        revision=folder.revision,
        weights_sha256=digest,
        licence=licence,
        notice=notice,
    )
    own = folder.path if adapter_folder is None else None
    return TransformersReasoner(
        loaded,
        identity,
        settings,
        constrained=asking.constrained,
        calibration=calibration_of(own, digest),
        kinds=kinds_of_model(own, digest),
    )


def connect_vllm_reasoner(
    base_url: str,
    model: str,
    *,
    input_size: int | None = None,
    prompt: str | PromptTemplate | None = None,
    asking: Asking = AS_THE_MODEL_SAYS,
    folder: str | Path | None = None,
    base: str | None = None,
    model_type: str | None = None,
    api_key: str | None = None,
    timeout_s: float | None = None,
    limits: ReasonerLimits | None = None,
    name: str | None = None,
    licence: str = UNKNOWN_LICENCE,
    notice: str | None = None,
    prepare: Callable[[str], None] = lambda address: None,
) -> VllmReasoner:
    """Connect to a vLLM server, or to several, and check that each serves the model.

    Args:
        base_url: e.g. ``http://localhost:8000/v1``; ``/v1`` is added where it is missing. Several
            with commas between are replicas (:mod:`.replicas`), started alike, with one key.
        model: model or LoRA adapter, by the name that the server lists it under or by the path or
            Hugging Face id that the server read it from. ``name`` is tried as a listed name, too.
        input_size: as in :func:`load_transformers_reasoner`.
        prompt: as in :func:`load_transformers_reasoner`.
        asking: likewise.
        folder: the model's folder where this machine has it too: its ``prompt.json`` is used. A
            server does not tell its weights' hash, so the identity holds one only where the server
            read this very folder.
        base: absolute folder or Hugging Face id, ``@REVISION`` behind it where one is pinned, of
            the model, or of the one beneath a LoRA adapter.
        model_type: as the model's ``config.json`` says, where neither ``folder`` nor this machine's
            copy of ``model``, of ``base`` or of what the server names holds that file.
        api_key: what the server was started with, if with any.
        timeout_s: longest silence, in place of that of ``limits``.
        limits: how long the server is waited for, and how much is taken from it.
        name: what the identity calls the model; by default ``model``.
        licence: of the weights, for the identity.
        notice: what a user must know of the weights, for the identity.
        prepare: makes the server of an address serve the model, each time before that is checked.

    Raises:
        ReasonerUnreachableError: if no server answers and serves the model.
        UnknownFamilyError: if nobody tells how the model writes coordinates.
        ImageSizeChangedError: if the model's processor would change the image's size.
        MissingExtraError: if the ``openai`` package is not installed.
        InputError: if there is no prompt of that name, or it does not fit the family.
    """
    from medreasoner_infer.reasoners.replicas import Replicas
    from medreasoner_infer.reasoners.server_link import REASONER_LIMITS, RETRIES, api_address
    from medreasoner_infer.reasoners.vllm_engine import VllmReasoner
    from medreasoner_infer.reasoners.vllm_server import VllmServer
    from medreasoner_infer.reasoners.weights import weights_sha256

    local = None if folder is None else Path(folder).expanduser().absolute()
    wanted = [model] if name is None else [model, name]
    bounds = limits or REASONER_LIMITS
    if timeout_s is not None:
        bounds = dataclasses.replace(bounds, silence_s=timeout_s)
    addresses = addresses_in(base_url)
    # A question that fails is put to another replica, and not to the same one again.
    retries = RETRIES if len(addresses) == 1 else 0
    by_address = {api_address(address): address for address in addresses}

    def connect(address: str) -> VllmServer:
        url = by_address[address]
        prepare(url)
        return VllmServer.connect(url, wanted, api_key=api_key, limits=bounds, retries=retries)

    servers = Replicas(tuple(by_address), connect)
    server = servers.reference
    # An adapter's folder holds no config.json, so that what lies beneath it is asked next.
    family = served_family((local, base, model, server.root, server.base), model_type)
    settings = served_settings(
        None if local is None else load_prompt_file(local),
        prompt,
        input_size,
        asking,
        family=family,
    )
    identity = ModelIdentity(
        name=name or model,
        source=f"{server.root or model} at {', '.join(servers.addresses)}",
        revision=None,
        weights_sha256=weights_sha256(local) if local and server.reads_from(local) else None,
        licence=licence,
        notice=notice,
    )
    return VllmReasoner(servers, identity, settings, family, constrained=asking.constrained)


def served_settings(
    file: PromptFile | None,
    prompt: str | PromptTemplate | None,
    input_size: int | None,
    asking: Asking = AS_THE_MODEL_SAYS,
    *,
    family: ModelFamily,
) -> PromptFile:
    """How a reasoner is asked: as wanted, else as its folder says, else as published.

    Args:
        file: of the model's folder.
        prompt: wanted; a name or a template.
        input_size: wanted.
        asking: what differs in this run; its prompt goes before all others.
        family: of the model, for its usual size.

    Raises:
        InputError: there is no prompt of that name, or it cannot be asked so.
    """
    wanted = asking.prompt or prompt
    template = named_prompt(wanted) if isinstance(wanted, str) else wanted
    if file is None:
        file = PromptFile(REASONING_PROMPT, "rgb", input_size or family.usual_px)
    return dataclasses.replace(
        file,
        template=in_prompting(template or file.template, asking),
        input_size=input_size or file.input_size,
    )
