# SPDX-License-Identifier: Apache-2.0
"""What a reasoner is told besides the image."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from medreasoner_infer.answer import DEFAULT_REASONING_CHARS, NOT_UNDERSTOOD
from medreasoner_infer.errors import InputError, ModelUnavailableError
from medreasoner_infer.reasoners import official_prompt
from medreasoner_infer.reasoners.coordinates import AnswerFrame
from medreasoner_infer.reasoners.image_encoding import IMAGE_ENCODINGS
from medreasoner_infer.reasoners.known_targets import KnownTargets
from medreasoner_infer.types import EarlierTargetInView

PROMPT_FILE = "prompt.json"
QUERY, SIZE = "{query}", "{size}"
# What a family's convention puts in: a sentence, the unit, and the example's numbers.
COORDINATES, UNIT, CORNERS, POINT = "{coordinates}", "{unit}", "{corners}", "{point}"
# Chat templates mark turns and images by <|…|>; typed by a user they would forge either.
_CONTROL_TOKEN = re.compile(r"<\|[^<>|]{0,40}\|>")

_FORMAT = (
    'Write the final line exactly as <answer>{"bbox": [{corners}], "points_1": [{point}], '
    '"points_2": [{point}]}</answer>. {coordinates} The box encloses the target closely; the two '
    "points lie well inside the target, apart from each other. If the target is not on this image, "
    "write "
    "<answer>null</answer> instead. If the question cannot be judged, write "
    f'<answer>"{NOT_UNDERSTOOD}"</answer> instead: it makes no sense, holds a word that you do not '
    "know, asks for several targets at once or for what no image shows, or the image is of a kind "
    "that you do not know."
)


@dataclass(frozen=True)
class PromptTemplate:
    """System message and user message of one question.

    ``user_template`` holds ``{query}`` once; both texts may hold ``{size}``, the side of the image
    in px, and what the model's family says of numbers: ``{coordinates}``, a sentence, ``{unit}``,
    and ``{corners}`` and ``{point}`` of an example. ``asks_reasoning`` tells whether a ``<think>``
    block is part of the answer. A small model may say which ``targets`` it was taught; a question
    that names one of them is put to it in the one way that it knows best. ``takes_follow_ups``
    tells whether the model reads what a follow-up question is about, in words.
    """

    system: str
    user_template: str
    asks_reasoning: bool = True
    targets: KnownTargets | None = None
    takes_follow_ups: bool = False

    def __post_init__(self) -> None:
        if self.user_template.count(QUERY) != 1:
            raise ValueError(
                f"The user template holds {QUERY} {self.user_template.count(QUERY)} times; "
                "expected once."
            )

    def render(
        self, query: str, frame: AnswerFrame, about: EarlierTargetInView | None = None
    ) -> tuple[str, str]:
        """System and user message. Chat control tokens typed by the reader become spaces.

        Args:
            query: the question.
            frame: in which the model writes coordinates.
            about: what a follow-up question goes on from; told behind the question.

        Raises:
            InputError: if nothing of the question remains.
        """
        plain = _plain(query)
        if not plain:
            raise InputError("The question is empty; expected a clinical question.")
        if self.targets is not None:
            plain = self.targets.asked(plain)
        if about is not None:
            plain = f"{plain}\n{_words_of(about, frame)}"
        system, user = self.told(frame)
        return system, user.replace(QUERY, plain)

    def told(self, frame: AnswerFrame) -> tuple[str, str]:
        """Both texts with what the model's family says of coordinates, still without a question."""
        return _told(self.system, frame), _told(self.user_template, frame)

    def require_told(self, frame: AnswerFrame) -> None:
        """Refuse a prompt that would ask for other coordinates than the model's own.

        One that names none leaves them to the model, if its order is the usual one.

        Raises:
            InputError: the prompt has no place for the family's sentence, and shows pixels, or the
                model writes y first.
        """
        text = self.system + self.user_template
        shows_pixels = SIZE in text and frame.coordinates.steps is not None
        if COORDINATES in text or not (shows_pixels or frame.coordinates.y_first):
            return
        raise InputError(
            f"This prompt does not say how to write coordinates ({COORDINATES}), and the model "
            f"writes {frame.coordinates.unit} as [{frame.coordinates.corners}]. Ask it by the "
            "prompt reasoning or direct."
        )


def _told(text: str, frame: AnswerFrame) -> str:
    """A template with what the family says of coordinates."""
    family = frame.coordinates
    for place, told in (
        (COORDINATES, family.sentence),
        (UNIT, family.unit),
        (CORNERS, family.corners),
        (POINT, family.point),
        (SIZE, str(frame.side_px)),
    ):
        text = text.replace(place, told)
    return text


def _plain(text: str) -> str:
    return _CONTROL_TOKEN.sub(" ", text).strip()


def _words_of(about: EarlierTargetInView, frame: AnswerFrame) -> str:
    """What a question follows up on; a box as the model writes it."""
    away = about.slices_away
    place = {None: "in another plane", 0: "on this slice"}.get(
        away, f"{away} slice{'' if away == 1 else 's'} away from this one"
    )
    if about.bbox_xyxy_share is not None:
        box = frame.ordered([round(share * frame.units) for share in about.bbox_xyxy_share])
        place += f", within {box} in the {frame.coordinates.unit} of this image"
    return (
        f'This question follows up on an earlier answer about "{_plain(about.name)}", {place}. '
        'Words such as "it", "its" and "the other one" refer to that.'
    )


@dataclass(frozen=True)
class PromptFile:
    """What ``prompt.json`` beside a model's weights says of how the model was trained.

    ``max_reasoning_chars`` bounds the trace: a model that loses the thread would otherwise go on
    as long as the bound of large models allows.
    """

    template: PromptTemplate
    image_encoding: str
    input_size: int
    max_reasoning_chars: int = DEFAULT_REASONING_CHARS


REASONING_PROMPT = PromptTemplate(
    system=(
        "You are a radiologist's assistant who finds on a medical image what an indirect clinical "
        "question asks about. The image may come from any modality."
    ),
    user_template=(
        "Question: {query}\n\n"
        "The question describes its target by function, appearance or position and may be vague. "
        "Think step by step, inside <think> and </think>, in a few short sentences:\n"
        "1. Interpret: which structures or findings could be meant?\n"
        "2. Gather evidence: which visible shapes, intensities and neighbours speak for each?\n"
        "3. Infer: which one is meant, and on which side and level does it lie?\n"
        "4. Localise: where are its outermost edges in {unit}?\n"
        "5. Resolve: if the evidence conflicts, say which part is stronger and settle on one.\n"
        "Do not refuse: choose the most plausible region, unless the target is not there. Only if "
        "the question cannot be judged, say why and do not guess.\n\n" + _FORMAT
    ),
    takes_follow_ups=True,
)

DIRECT_PROMPT = PromptTemplate(
    system=REASONING_PROMPT.system,
    user_template="Question: {query}\n\nAnswer at once, without any other text. " + _FORMAT,
    asks_reasoning=False,
    takes_follow_ups=True,
)

OFFICIAL_PROMPT = PromptTemplate(official_prompt.SYSTEM, official_prompt.REASONING)
OFFICIAL_DIRECT_PROMPT = PromptTemplate(
    official_prompt.SYSTEM, official_prompt.DIRECT, asks_reasoning=False
)

#: The paper's two ways of asking: a trace before the answer, or the answer alone.
Prompting = Literal["reasoning", "direct"]
_NAMED = {
    "reasoning": REASONING_PROMPT,
    "direct": DIRECT_PROMPT,
    "official": OFFICIAL_PROMPT,
    "official-direct": OFFICIAL_DIRECT_PROMPT,
}
_PAIRS = ((REASONING_PROMPT, DIRECT_PROMPT), (OFFICIAL_PROMPT, OFFICIAL_DIRECT_PROMPT))


@dataclass(frozen=True)
class Asking:
    """How a reasoner is asked, where not as its folder or the registry says.

    Attributes:
        prompt: name of a built-in template, see :func:`named_prompt`; ``None`` keeps the model's.
        prompting: ``reasoning`` or ``direct``; ``None`` keeps the template's way.
        constrained: ``False`` decodes freely, so that a model can refuse or break the format.

    Raises:
        InputError: there is no prompt or no prompting of that name.
    """

    prompt: str | None = None
    prompting: Prompting | None = None
    constrained: bool = True

    def __post_init__(self) -> None:
        if self.prompt is not None:
            named_prompt(self.prompt)
        known = get_args(Prompting)
        if self.prompting is not None and self.prompting not in known:
            raise InputError(
                f"The prompting is {self.prompting!r}; expected one of {', '.join(known)}."
            )


AS_THE_MODEL_SAYS = Asking()


def in_prompting(template: PromptTemplate, asking: Asking) -> PromptTemplate:
    """The template, or its counterpart that asks for a trace or for the answer alone.

    A template of a model's own folder keeps its words: decoding is held to an answer with a trace
    or without one.

    Raises:
        InputError: decoding is free, so that nothing would tell such a model what is wanted.
    """
    prompting = asking.prompting
    wanted = template.asks_reasoning if prompting is None else prompting == "reasoning"
    if wanted == template.asks_reasoning:
        return template
    for pair in _PAIRS:
        if template in pair:
            return pair[0] if wanted else pair[1]
    if not asking.constrained:
        raise InputError(
            "This model has a prompt of its own, which does not tell it to answer in the way "
            f"{prompting!r}, and free decoding does not hold it to that. Decode constrained, or "
            "name another prompt."
        )
    return dataclasses.replace(template, asks_reasoning=wanted)


def named_prompt(name: str) -> PromptTemplate:
    """The built-in template: ``reasoning``, ``direct``, or the paper's, ``official`` or
    ``official-direct``.

    Raises:
        InputError: if there is no template of that name.
    """
    if name not in _NAMED:
        raise InputError(f"The prompt is {name!r}; expected one of {', '.join(_NAMED)}.")
    return _NAMED[name]


def load_prompt_file(folder: Path) -> PromptFile | None:
    """``prompt.json`` of a model's folder, or ``None`` where there is none.

    Raises:
        ModelUnavailableError: if the file is not what it should be.
    """
    path = folder / PROMPT_FILE
    if not path.is_file():
        return None
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        template = PromptTemplate(
            fields["system"],
            fields["user_template"],
            fields.get("asks_reasoning", True),
            _read_targets(fields.get("targets"), fields.get("refuses_others")),
            fields.get("takes_follow_ups", False),
        )
        loaded = PromptFile(
            template,
            fields["image_encoding"],
            int(fields["input_size"]),
            int(fields.get("max_reasoning_chars", DEFAULT_REASONING_CHARS)),
        )
    except (KeyError, TypeError, ValueError, InputError) as error:
        raise ModelUnavailableError(
            f"{path} is malformed ({error}); expected system, user_template with {QUERY}, "
            "image_encoding, input_size and, if there are any, targets by name with a question."
        ) from error
    if loaded.image_encoding not in IMAGE_ENCODINGS:
        raise ModelUnavailableError(
            f"{path} names the image encoding {loaded.image_encoding!r}; expected one of "
            f"{', '.join(IMAGE_ENCODINGS)}."
        )
    return loaded


def prompt_json(settings: PromptFile) -> str:
    """The text of ``prompt.json`` that is read back as ``settings``."""
    fields = dataclasses.asdict(
        dataclasses.replace(settings, template=dataclasses.replace(settings.template, targets=None))
    )
    template = fields.pop("template")
    known = settings.template.targets
    targets = None if known is None else dict(known.questions)
    refuses = None if known is None else known.refuses_others
    return (
        json.dumps(
            {**template, **fields, "targets": targets, "refuses_others": refuses},
            indent=2,
            ensure_ascii=False,
        )
        + "\n"
    )


def trained_further(settings: PromptFile) -> PromptFile:
    """How a model is asked that was trained on more than its file says."""
    known = settings.template.targets
    if known is None:
        return settings
    targets = dataclasses.replace(known, refuses_others=False)
    return dataclasses.replace(
        settings, template=dataclasses.replace(settings.template, targets=targets)
    )


def _read_targets(questions: dict[str, str] | None, refuses: bool | None) -> KnownTargets | None:
    """``targets`` of ``prompt.json``: the question of each, and whether there are no others."""
    return None if questions is None else KnownTargets(dict(questions), refuses is not False)
