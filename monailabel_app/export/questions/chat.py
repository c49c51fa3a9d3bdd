# SPDX-License-Identifier: Apache-2.0
"""Chat completions of a language model behind an OpenAI-compatible server of the site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from medreasoner_infer.errors import InputError, ReasonerUnreachableError
from medreasoner_infer.reasoners.server_link import ReasonerLimits, ServerLink
from monailabel_app.export.questions.settings import (
    QueryWriterSettings,
    QueryWriterUnreachableError,
    require_at_site,
)

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types.chat import ChatCompletionMessageParam
    from openai.types.shared_params import ResponseFormatJSONSchema

_TEMPERATURE = 0.8


class SiteChat:
    """Asks the model for JSON.

    Args:
        settings: which model.
        api_key: of the server, if it wants one.

    Raises:
        QueryWriterSettingsError: the address is not at the site.
        QueryWriterUnreachableError: the address has no such host.
    """

    def __init__(self, settings: QueryWriterSettings, api_key: str | None = None) -> None:
        require_at_site(settings)
        self._model = settings.model
        # No proxy from the environment and no redirect: either would lead out of the site.
        limits = ReasonerLimits(silence_s=settings.timeout_s)
        self._link = ServerLink.to(settings.url, api_key, limits, trust_env=False)

    def __call__(
        self,
        messages: Sequence[Mapping[str, str]],
        schema: Mapping[str, Any],
        most_tokens: int,
        seed: int,
    ) -> str:
        """The text of an answer that is to keep to the schema; empty if there is none.

        Raises:
            QueryWriterUnreachableError: the server fails, or does not know the model.
        """

        async def request(client: AsyncOpenAI, emit: object) -> Any:
            return await client.chat.completions.create(
                model=self._model,
                messages=cast("list[ChatCompletionMessageParam]", list(messages)),
                response_format=_answer_format(schema),
                max_tokens=most_tokens,
                temperature=_TEMPERATURE,
                seed=seed,
            )

        try:
            answer = self._link.call(request)
        except (ReasonerUnreachableError, InputError) as error:
            raise QueryWriterUnreachableError(
                f"The query writer at {self._link.address} cannot be used with the model "
                f"{self._model!r}: {error} Or go on without it."
            ) from error
        choices = answer.choices if isinstance(answer.choices, list) else []
        return (choices[0].message.content or "") if choices else ""


def _answer_format(schema: Mapping[str, Any]) -> ResponseFormatJSONSchema:
    return {
        "type": "json_schema",
        "json_schema": {"name": "questions", "strict": True, "schema": dict(schema)},
    }
