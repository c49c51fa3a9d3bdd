# SPDX-License-Identifier: Apache-2.0
"""Single prompts as the rows of one batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_BY_TOKEN = {"attention_mask": 0, "mm_token_type_ids": 0, "token_type_ids": 0}


def computed_tokens(prompt: dict[str, Any]) -> int:
    """How many of a prompt's first tokens are computed already."""
    cache = prompt.get("past_key_values")
    return 0 if cache is None else int(cache.get_seq_length())


def joined(prompts: Sequence[dict[str, Any]], pad_token_id: int) -> dict[str, Any]:
    """Model inputs of the prompts, one row each.

    Prompts whose first part is computed already are filled up behind that part, which is as long in
    all of them, others at their start; the attention leaves out what is filled in. The prompts are
    not to be used again.

    Args:
        prompts: inputs of one row each.
        pad_token_id: what is filled in.

    Raises:
        ValueError: the parts that are computed differ in length.
    """
    if len(prompts) == 1:
        return prompts[0]
    lengths = {computed_tokens(prompt) for prompt in prompts}
    if len(lengths) > 1:
        raise ValueError(f"The computed parts have {sorted(lengths)} tokens; expected one length.")
    (start,) = lengths
    length = max(prompt["input_ids"].shape[1] for prompt in prompts)
    fillings = {"input_ids": pad_token_id, **_BY_TOKEN}
    rows: dict[str, Any] = {}
    for name, value in prompts[0].items():
        if name == "past_key_values":
            rows[name] = _joined_caches([each[name] for each in prompts])
        elif name in fillings:
            rows[name] = _cat(
                [_filled(each[name], start, length, fillings[name]) for each in prompts]
            )
        elif hasattr(value, "dim"):
            rows[name] = _cat([each[name] for each in prompts])
        else:
            rows[name] = value
    return rows


def repeated(inputs: dict[str, Any], rows: int) -> dict[str, Any]:
    """The single prompt of ``inputs``, once per sample."""
    import torch

    if rows == 1:
        return inputs
    repeated = {
        name: value.repeat(rows, *[1] * (value.dim() - 1))
        for name, value in inputs.items()
        if isinstance(value, torch.Tensor)
    }
    if "past_key_values" in inputs:
        inputs["past_key_values"].batch_repeat_interleave(rows)
        repeated["past_key_values"] = inputs["past_key_values"]
    return repeated


def _cat(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    import torch

    return torch.cat(list(parts))


def _filled(tokens: torch.Tensor, start: int, length: int, filling: int) -> torch.Tensor:
    """(1, length) of (1, fewer), with ``filling`` from ``start`` on."""
    import torch

    missing = tokens.new_full((1, length - tokens.shape[1]), filling)
    return torch.cat([tokens[:, :start], missing, tokens[:, start:]], dim=1)


def _joined_caches(caches: Sequence[Any]) -> Any:
    first = caches[0]
    for layers in zip(*(cache.layers for cache in caches), strict=True):
        layers[0].keys = _cat([layer.keys for layer in layers])
        layers[0].values = _cat([layer.values for layer in layers])
    return first
