# SPDX-License-Identifier: Apache-2.0
"""LoRA adapters of a running vLLM server, through its ``/v1/load_lora_adapter`` route."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from medreasoner_infer.errors import ReasonerUnreachableError
from medreasoner_infer.models.store.errors import AdapterNotServedError
from medreasoner_infer.reasoners.vllm_server import api_address

if TYPE_CHECKING:
    import httpx


def set_lora_adapter(
    base_url: str,
    name: str,
    folder: Path | None,
    *,
    api_key: str | None = None,
    timeout_s: float = 120.0,
) -> None:
    """Have a vLLM server offer the adapter in ``folder`` as ``name``, or no longer (``None``).

    The server must see ``folder`` under the same path, and must have been started with
    ``--enable-lora`` and ``VLLM_ALLOW_RUNTIME_LORA_UPDATING=1``. Asking for what is so already does
    nothing.

    Raises:
        AdapterNotServedError: if the server refuses, or offers something else as ``name``.
        ReasonerUnreachableError: if it does not answer.
    """
    import httpx

    address = api_address(base_url)
    headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
    try:
        with httpx.Client(base_url=address, headers=headers, timeout=timeout_s) as client:
            root = _served_root(client, name)
            if folder is None:
                if root is not None:
                    _post(client, "unload_lora_adapter", {"lora_name": name})
            elif root is None:
                path = str(folder.resolve())
                _post(client, "load_lora_adapter", {"lora_name": name, "lora_path": path})
            elif Path(root).resolve() != folder.resolve():
                raise AdapterNotServedError(
                    f"The server at {address} offers {name!r} already, read from {root}; expected "
                    f"{folder}. Unload that one first."
                )
    except httpx.HTTPError as error:
        raise ReasonerUnreachableError(
            f"The reasoner's server at {address} could not be reached or broke off "
            f"({type(error).__name__}). Check that it runs."
        ) from error


def _served_root(client: httpx.Client, name: str) -> str | None:
    """Where the server read the model of that name from; ``None`` if it offers none."""
    answer = client.get("models")
    cards = _json(answer).get("data")
    if answer.status_code != 200 or not isinstance(cards, list):
        raise ReasonerUnreachableError(
            f"{client.base_url} did not answer with a list of models (HTTP {answer.status_code}); "
            "expected a vLLM server's address and its API key."
        )
    return next((str(card.get("root")) for card in cards if card.get("id") == name), None)


def _post(client: httpx.Client, route: str, body: dict[str, str]) -> None:
    answer = client.post(route, json=body)
    if answer.is_success:
        return
    error = _json(answer).get("error")
    if answer.status_code in (404, 405) and not isinstance(error, dict):
        raise AdapterNotServedError(
            f"The server at {client.base_url} has no route {route}. Start it with --enable-lora "
            "and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1."
        )
    kind = error.get("type", "no type") if isinstance(error, dict) else "no type"
    raise AdapterNotServedError(
        f"The server at {client.base_url} refused {route} of {body['lora_name']!r} with HTTP "
        f"{answer.status_code} ({kind}). See its log; --max-lora-rank must be at least the "
        "adapter's rank, and the server must see the adapter's folder under the same path."
    )


def _json(answer: httpx.Response) -> dict[str, Any]:
    """The body, or nothing where it is no JSON object, as of a proxy."""
    try:
        body = answer.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
