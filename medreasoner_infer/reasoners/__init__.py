# SPDX-License-Identifier: Apache-2.0
"""Reasoners: multimodal language models that answer a clinical question with a grounding.

Two engines share one interface: transformers in this process, and a vLLM server. Importing this
package loads neither.
"""

from __future__ import annotations

from medreasoner_infer.reasoners.base import Reasoner, answers_or_faults
from medreasoner_infer.reasoners.factory import connect_vllm_reasoner, load_transformers_reasoner
from medreasoner_infer.reasoners.image_encoding import ImageEncoding, prepare_image
from medreasoner_infer.reasoners.prompts import PromptTemplate

__all__ = [
    "ImageEncoding",
    "PromptTemplate",
    "Reasoner",
    "answers_or_faults",
    "connect_vllm_reasoner",
    "load_transformers_reasoner",
    "prepare_image",
]
