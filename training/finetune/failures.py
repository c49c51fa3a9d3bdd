# SPDX-License-Identifier: Apache-2.0
"""Faults of the machine as sentences that say what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medreasoner_infer.errors import OutOfMemoryError
from medreasoner_training.finetune.errors import DiskFullError, NonFiniteLossError

# torch and safetensors write through libraries that keep only the words of ENOSPC, or not those.
_WORDS_OF_FULL_DISK = ("No space left", "PytorchStreamWriter failed", "enforce fail at inline_con")
# What torch says when a model with weights that are not finite is to answer.
_WORDS_OF_NON_FINITE = "probability tensor contains"


@contextmanager
def typed_faults(run_dir: Path) -> Iterator[None]:
    """Turn faults of the machine into errors of this project.

    Raises:
        OutOfMemoryError: the GPU, or the machine, ran out of memory.
        NonFiniteLossError: the model's answers have no probabilities any more.
        DiskFullError: the disk ran full.
    """
    import torch
    from safetensors import SafetensorError

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemoryError(
            "The GPU ran out of memory. Lower grpo.micro_batch (or sft.micro_batch), set "
            "run.gradient_checkpointing: true or lower vllm.gpu_memory_share, and start the same "
            "command again: the run goes on. If that is not enough, a new run needs shorter "
            "rollouts (grpo.max_completion_tokens), fewer of them, or tuning: lora."
        ) from error
    except MemoryError as error:
        raise OutOfMemoryError(
            "The machine ran out of memory. End other programs, lower grpo.micro_batch (or "
            "sft.micro_batch), and start the same command again: the run goes on. If that is not "
            "enough, a new run needs fewer or shorter rollouts, or a smaller data set."
        ) from error
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise _disk_full(run_dir) from error
    except (RuntimeError, SafetensorError) as error:
        if _WORDS_OF_NON_FINITE in str(error):
            raise NonFiniteLossError(
                "The model's answers have no probabilities any more: its weights are not finite. "
                "The live model is untouched; lower the learning rate or grpo.max_grad_norm, then "
                "start a new run."
            ) from error
        if not any(words in str(error) for words in _WORDS_OF_FULL_DISK):
            raise
        raise _disk_full(run_dir) from error


def _disk_full(run_dir: Path) -> DiskFullError:
    return DiskFullError(
        f"The disk of {run_dir} ran full while writing. Free some space and start the same command "
        "again: the run resumes from its last complete checkpoint."
    )
