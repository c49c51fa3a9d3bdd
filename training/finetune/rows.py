# SPDX-License-Identifier: Apache-2.0
"""Rows of a data set folder as TRL reads them, asked exactly as the served reasoner is asked.

Two squares are in play: the data set's images of D px, and the ``input_size`` of S px, reasoner px,
in which the model sees them. Prompts and completions write coordinates as the model's family does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medreasoner_infer.reasoners.coordinates import AnswerFrame
from medreasoner_infer.reasoners.image_encoding import prepare_image
from medreasoner_infer.reasoners.prompts import PromptFile
from medreasoner_training.finetune.errors import ImageSizeError, TooFewSamplesError
from medreasoner_training.finetune.raw_samples import (
    RawSample,
    read_sample,
    scale_sample,
)
from medreasoner_training.finetune.settings import ImageSizes
from medreasoner_training.finetune.traces import completion_of
from medreasoner_training.rewards import GroundTruth
from medreasoner_training.samples import Augmentation
from medreasoner_training.samples.schema import ground_truth_json

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class RowMaker:
    """Makes TRL's columns of a sample.

    Attributes:
        settings: prompt, encoding and input size of the served reasoner.
        frame: how the model writes coordinates of a square of ``settings.input_size``.
        image_sizes: what happens to images of another size than ``settings.input_size``.
        augmentation: varies samples; ``None`` leaves them as they are.

    Raises:
        InputError: the prompt asks for other coordinates than the model's own.
    """

    settings: PromptFile
    frame: AnswerFrame
    image_sizes: ImageSizes = ImageSizes.refuse
    augmentation: Augmentation | None = None

    def __post_init__(self) -> None:
        self.settings.template.require_told(self.frame)

    def __call__(self, sample: RawSample, seed: int) -> dict[str, Any]:
        """The columns of one sample.

        Args:
            sample: as read from the data set.
            seed: of the augmentation; the rollouts of a group must share it.

        Returns:
            ``prompt`` (system and user message), ``image`` (what the reasoner reads),
            ``completion`` (the approved answer, for supervised steps), ``ground_truth`` (JSON in
            reasoner px, ``null`` for an absent target), ``square`` (letterboxed slice before its
            encoding) and ``mask``, both PIL images of input size, and ``query``.

        Raises:
            ImageSizeError: the image has another size and must not be scaled.
        """
        from PIL import Image

        self.check_size(len(sample.image))
        sample = self._varied(sample, seed)
        asked = scale_sample(sample, self.settings.input_size)
        completion = completion_of(asked, self.settings.template, self.frame)
        return {
            "prompt": self.messages(sample.query),
            "image": Image.fromarray(prepare_image(asked.image, self.settings.image_encoding)),
            "completion": [{"role": "assistant", "content": completion}],
            "ground_truth": _json_of(asked.truth),
            "square": Image.fromarray(asked.image),
            "mask": Image.fromarray(np.where(asked.mask, 255, 0).astype(np.uint8)),
            "query": asked.query,
        }

    def _varied(self, sample: RawSample, seed: int) -> RawSample:
        """Box and points are those of the varied mask."""
        if self.augmentation is None:
            return sample
        varied = self.augmentation(sample.image, sample.mask, seed)
        truth = None
        if varied.truth is not None:
            truth = GroundTruth(varied.truth.bbox_xyxy_px, varied.truth.points_xy_px)
        return dataclasses.replace(sample, image=varied.image, mask=varied.mask, truth=truth)

    def messages(self, query: str) -> list[dict[str, str]]:
        """System and user message; TRL puts the image before the user's text, as serving does."""
        system, user = self.settings.template.render(query, self.frame)
        return [{"role": "system", "content": system}, {"role": "user", "content": user}]

    def check_size(self, side_px: int) -> None:
        """Refuse an image that the model would read at another scale.

        Raises:
            ImageSizeError: in that case, unless images are to be scaled.
        """
        if side_px != self.settings.input_size and self.image_sizes is ImageSizes.refuse:
            raise ImageSizeError(
                f"The data set's images have {side_px} px, the model reads "
                f"{self.settings.input_size} px. Export the data set with that model size, or set "
                "data.image_sizes to scale."
            )


def _json_of(truth: GroundTruth | None) -> str:
    """The ground truth as the reward functions read it."""
    if truth is None:
        return ground_truth_json(None, None)
    return ground_truth_json(truth.bbox_xyxy_px, truth.points_xy_px)


def training_rows(raw: Dataset, maker: RowMaker, count: int, seed: int) -> Dataset:
    """``count`` rows in the order of training, made when they are read.

    The order of all passes is laid out at once, each pass a permutation with augmentation seeds of
    its own: a resumed run then meets the same rows as one that was not interrupted, and all
    rollouts of a group the same image. Nothing is written to a cache.

    Args:
        raw: rows of the data set folder.
        maker: makes the columns.
        count: number of rows.
        seed: of order and augmentation.

    Raises:
        TooFewSamplesError: there is no sample.
        ImageSizeError: as :class:`RowMaker`, for the first row.
    """
    from datasets import Dataset

    if not len(raw):
        raise TooFewSamplesError("The data set has no training sample. Approve labels and export.")
    maker.check_size(raw[0]["images"][0].size[0])
    rng = np.random.default_rng(seed)
    passes = [rng.permutation(len(raw)) for _ in range(-(-count // len(raw)))]
    order = np.concatenate(passes)[:count]
    seeds = rng.integers(0, 2**31, count)

    def make(batch: Mapping[str, Sequence[int]]) -> dict[str, list[Any]]:
        pairs = list(zip(map(int, batch["row"]), map(int, batch["seed"]), strict=True))
        # A group's rollouts ask for the same row; making it once saves most of the augmentation.
        made = {(row, own): maker(read_sample(raw[row]), own) for row, own in set(pairs)}
        return {name: [made[pair][name] for pair in pairs] for name in made[pairs[0]]}

    return Dataset.from_dict({"row": order, "seed": seeds}).with_transform(make)


def spread_rows(rows: Dataset, count: int) -> Dataset:
    """``count`` rows at equal distances, some of them twice where there are fewer."""
    picks = np.linspace(0, len(rows), count, endpoint=False).astype(int)
    return rows.select(picks, keep_in_memory=True)
