# SPDX-License-Identifier: Apache-2.0
"""The prompt of the MedReasoner paper (arXiv 2508.08177), word by word.

The released checkpoints were trained with it, so another one would measure something else. The text
is that of ``verl/utils/dataset/rl_dataset.py`` in github.com/PRIS-CV/MedReasoner, a file under the
Apache License 2.0, with ``{query}`` in the question's place; the shorter one, without a trace, is
that of the paper's comparison. Both forbid to say that a target is absent.
"""
# ruff: noqa: E501 - as published

from __future__ import annotations

#: Qwen2.5-VL's own default, which training and published evaluation leave in place.
SYSTEM = "You are a helpful assistant."

_KEYS = (
    "- <answer>...</answer>: This section must contain a JSON object with the following keys and values:\n"
    '    "bbox": the tightest bounding box enclosing the target region.\n'
    '    "points_1": a primary key point within the bbox, on the target region.\n'
    '    "points_2": a second, distinct key point within the target region.\n\n'
)
_EXAMPLE = "<answer>{'bbox': [xmin, ymin, xmax, ymax], 'points_1': [x1, y1], 'points_2': [x2, y2]}</answer>"

REASONING = (
    "\n"
    "This is a medical image localization task. Modalities include X-ray, CT, MRI, ultrasound, endoscopy, fundus, pathology, dermoscopy, and mammography.\n"
    "The question provides only implicit cues about the target region. Begin by inferring its likely focus as a clinician would.\n"
    "Your goal is to use rigorous visual reasoning to identify the anatomical or pathological region implied by the question and precisely locate it in the image.\n\n"
    "Think step by step to answer the question and accurately ground the target in the image.\n"
    "Question: {query}\n\n"
    "Step-by-step guidelines:\n"
    "1. Interpreting the vague question: The question may not explicitly describe the target. Start by hypothesizing its implied intent using prior clinical knowledge and general context.\n"
    "2. Gathering visual evidence: Systematically inspect the image and extract relevant visual features—such as shape, edge definition, brightness or density, symmetry, texture, and structural heterogeneity—to validate or revise your initial hypothesis.\n"
    "3. Inferring the most likely target region: Integrate your clinical hypothesis with visual observations. Narrow down to a single region that best matches the implied intent of the question, guided by the most salient visual cues.\n"
    "4. Delivering precise localization: Express your conclusion by providing only spatial location details (bounding box and points). Omit diagnosis or classification.\n"
    "5. Resolving inconsistencies: If earlier reasoning conflicts with visible evidence, revise your interpretation and prioritize the observed visual data.\n\n"
    "Output Formats:\n"
    "Your response must adhere to a strict format, containing exactly one <think> block followed immediately by one <answer> block:\n"
    "- <think>...</think>: Use clinical reasoning to precisely explain how the observed visual features and relevant medical context were integrated to determine the target region in the image.\n"
    + _KEYS
    + "Response Rules:\n"
    "- The entire output must be a single continuous string, containing precisely one <think> block and one <answer> block, with no additional text or formatting.\n"
    "- The <think> section must exclusively reflect confident clinical reasoning focused on precise localization, without any hedging, ambiguity, or expressions of uncertainty.\n"
    "- The <answer> block must not be empty. You must always output a valid bounding box and two key points.\n"
    "- The bounding box must be the tightest possible rectangle that completely encloses the target region, excluding any background pixels.\n"
    "- The two key points must have distinct coordinates, lie strictly within the target region, and correspond to different salient visual cues.\n\n"
    "Example Output:\n"
    "<think> thinking process here </think>" + _EXAMPLE
)

DIRECT = (
    "\n"
    "{query}\n\n"
    "Output Formats:\n"
    "Your response must adhere to a strict format, containing exactly one <answer> block:\n"
    + _KEYS
    + "Example Output:\n"
    + _EXAMPLE
)
