# SPDX-License-Identifier: Apache-2.0
"""Faults of the machine as sentences that say what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medreasoner_infer.errors import OutOfMemoryError
from medreasoner_training.finetune.errors import DiskFullError

# torch and safetensors write through libraries that keep only the words of ENOSPC, or not those.
_WORDS_OF_FULL_DISK = ("No space left", "PytorchStreamWriter failed", "enforce fail at inline_con")


@contextmanager
def typed_faults(run_dir: Path) -> Iterator[None]:
    """Turn faults of the machine into errors of this project.

    Raises:
        OutOfMemoryError: the GPU ran out of memory.
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
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise _disk_full(run_dir) from error
    except (RuntimeError, SafetensorError) as error:
        if not any(words in str(error) for words in _WORDS_OF_FULL_DISK):
            raise
        raise _disk_full(run_dir) from error


def _disk_full(run_dir: Path) -> DiskFullError:
    return DiskFullError(
        f"The disk of {run_dir} ran full while writing. Free some space and start the same command "
        "again: the run resumes from its last complete checkpoint."
    )
