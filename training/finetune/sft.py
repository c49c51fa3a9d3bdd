# SPDX-License-Identifier: Apache-2.0
"""Supervised steps with TRL: the cold start before GRPO, and the baseline to compare it with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medreasoner_training.finetune.arguments import new_adapter, sft_arguments
from medreasoner_training.finetune.config import FineTuneConfig
from medreasoner_training.finetune.rows import RowMaker, training_rows
from medreasoner_training.finetune.stage import Stage

if TYPE_CHECKING:
    from datasets import Dataset
    from trl import SFTTrainer

    from medreasoner_infer.reasoners.transformers_loading import LoadedModel


def sft_trainer(
    config: FineTuneConfig,
    stage: Stage,
    loaded: LoadedModel,
    raw: Dataset,
    maker: RowMaker,
) -> SFTTrainer:
    """A trainer that teaches ``completion`` behind ``prompt``; the prompt itself is not learnt.

    Raises:
        TooFewSamplesError: there is no sample.
        ImageSizeError: the images have another size and must not be scaled.
    """
    from trl import SFTTrainer

    return SFTTrainer(
        model=loaded.model,
        args=sft_arguments(config, stage.folder),
        train_dataset=training_rows(raw, maker, stage.steps * config.sft.batch, config.run.seed),
        processing_class=loaded.processor,
        peft_config=new_adapter(config, loaded.model),
    )
