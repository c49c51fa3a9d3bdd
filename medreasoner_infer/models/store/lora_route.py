# SPDX-License-Identifier: Apache-2.0
"""LoRA adapters of a running vLLM server, through its ``/v1/load_lora_adapter`` route."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medreasoner_infer.errors import ReasonerUnreachableError
from medreasoner_infer.models.store.errors import AdapterNotServedError
from medreasoner_infer.reasoners.server_link import api_address
from medreasoner_infer.waiting import OutOfTimeError, run_cancellable

if TYPE_CHECKING:
    import httpx

_MOST_BYTES = 4 << 20


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

    async def request(_: object) -> None:
        async with httpx.AsyncClient(
            base_url=address, headers=headers, timeout=timeout_s
        ) as client:
            await _set(client, name, folder)

    try:
        run_cancellable(request, total_s=timeout_s)
    except OutOfTimeError as error:
        raise ReasonerUnreachableError(
            f"The reasoner's server at {address} did not set the adapter within {timeout_s:g} s."
        ) from error
    except httpx.HTTPError as error:
        raise ReasonerUnreachableError(
            f"The reasoner's server at {address} could not be reached or broke off "
            f"({type(error).__name__}). Check that it runs."
        ) from error


async def _set(client: httpx.AsyncClient, name: str, folder: Path | None) -> None:
    root = await _served_root(client, name)
    if folder is None:
        if root is not None:
            await _post(client, "unload_lora_adapter", {"lora_name": name})
    elif root is None:
        path = str(folder.resolve())
        await _post(client, "load_lora_adapter", {"lora_name": name, "lora_path": path})
    elif Path(root).resolve() != folder.resolve():
        raise AdapterNotServedError(
            f"The server at {client.base_url} offers {name!r} already, read from {root}; expected "
            f"{folder}. Unload that one first."
        )


async def _served_root(client: httpx.AsyncClient, name: str) -> str | None:
    """Where the server read the model of that name from; ``None`` if it offers none."""
    status, body = await _ask(client, "GET", "models")
    cards = body.get("data")
    if status != 200 or not isinstance(cards, list):
        raise ReasonerUnreachableError(
            f"{client.base_url} did not answer with a list of models (HTTP {status}); "
            "expected a vLLM server's address and its API key."
        )
    of_name = (card for card in cards if isinstance(card, dict) and card.get("id") == name)
    return next((str(card.get("root")) for card in of_name), None)


async def _post(client: httpx.AsyncClient, route: str, asked: dict[str, str]) -> None:
    status, body = await _ask(client, "POST", route, asked)
    if 200 <= status < 300:
        return
    error = body.get("error")
    if status in (404, 405) and not isinstance(error, dict):
        raise AdapterNotServedError(
            f"The server at {client.base_url} has no route {route}. Start it with --enable-lora "
            "and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1."
        )
    kind = error.get("type", "no type") if isinstance(error, dict) else "no type"
    raise AdapterNotServedError(
        f"The server at {client.base_url} refused {route} of {asked['lora_name']!r} with HTTP "
        f"{status} ({kind}). See its log; --max-lora-rank must be at least the "
        "adapter's rank, and the server must see the adapter's folder under the same path."
    )


async def _ask(
    client: httpx.AsyncClient, method: str, route: str, asked: dict[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    """Status and body; no more of it is taken than such an answer has."""
    body = b""
    async with client.stream(method, route, json=asked) as answer:
        async for chunk in answer.aiter_bytes():
            body += chunk
            if len(body) > _MOST_BYTES:
                raise ReasonerUnreachableError(
                    f"{client.base_url} answered with more than {_MOST_BYTES} bytes; expected a "
                    "vLLM server's address."
                )
    return answer.status_code, _json(body)


def _json(content: bytes) -> dict[str, Any]:
    """The body, or nothing where it is no JSON object, as of a proxy."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}
