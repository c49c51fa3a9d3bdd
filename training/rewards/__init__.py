# SPDX-License-Identifier: Apache-2.0
"""Rewards of a reasoner's completions, term by term, for reinforcement learning with TRL.

The terms are those of MedReasoner (arXiv 2508.08177); :func:`score` computes them for one
completion, :func:`make_reward_functions` makes TRL's reward functions of them, :func:`explain` says
why a completion earned what it earned, and :func:`mask_dice_reward` rewards the mask of a frozen
segmenter. Coordinates are pixels of the image that the reasoner reads (reasoner px); the thresholds
of 10 px and 100 px are published for images of 840 px.

Where the default differs from the released code, which ``as_released=True`` reproduces:

==========================  ==============================  =====================================
subject                     as released                     default, and why
==========================  ==============================  =====================================
points_dice, denominator    union: identical pairs have 2,  true Dice 0...1: no saturation at half
                            clipped to a reward of 1        the overlap
points_dice, orientation    any axis of the same disc       times the agreement of the axes,
                                                            ``abs(cos)``, which fades out for true
                                                            points nearer than 10 px and is 1 for
                                                            coincident ones
points_angle                0.1 for coincident true points  same agreement, so that a perfect
                                                            answer is maximal
spread penalty              points within 10 px             not if as far apart as the true ones
NaN, booleans, beyond       numbers, with full format       malformed, no credit for the box or
65535 px                    credit                          the points
reversed or flat box        full format credit, 0.08 of     malformed, no credit for the box
                            IoU reward and more
exceptions in a family      swallowed: all its terms are 0  none arise; faults of a completion are
                                                            typed in ``Reading.faults``, those of
                                                            the ground truth are raised
apostrophe in the answer    ``'`` becomes ``"``: not JSON   read as it stands; Python's quotes
                                                            around keys are still read
answer inside the trace     counts if it comes first        the answer is sought behind the trace
base: iou, bbox_l1          never fire                      fire; edge-based IoU, not +1 px
base: JSON                  first ``{…}`` anywhere          the answer block
base: points                truncated to integers           as they are
no target                   raises                          see below
term of another mode        0                               ``None``: not scored
==========================  ==============================  =====================================

A raise of the released code that its caller does not swallow is represented by ``None`` for every
value; swallowed ones are zeros, as they are there. What it makes of NaN is not known.

Every outcome keeps the credit of its format. A box earns the other terms where there is a target,
``<answer>null</answer>`` where it is absent (ground truth ``None``), and
``<answer>"not understood"</answer>`` where the ground truth is ``"not understood"``. What the last
two earn is set so that a box pays as soon as the target is rather there than not; see
:mod:`~medreasoner_training.rewards.operating_point` and ``docs/rewards.md``.
"""

from __future__ import annotations

from medreasoner_training.rewards.config import (
    BASE_TERMS,
    HARD_TERMS,
    MODE_TERMS,
    OPERATING_IOU,
    SOFT_TERMS,
    Mode,
    RewardConfig,
)
from medreasoner_training.rewards.errors import (
    CompletionTypeError,
    GroundTruthError,
    RewardConfigError,
)
from medreasoner_training.rewards.explanation import TermExplanation, explain
from medreasoner_training.rewards.ground_truth import (
    GroundTruth,
    Truth,
    read_ground_truth,
    read_truth,
)
from medreasoner_training.rewards.mask_reward import mask_dice_reward
from medreasoner_training.rewards.metrics_as_released import (
    metrics_as_released,
    pdice_as_released,
)
from medreasoner_training.rewards.overlap import dice
from medreasoner_training.rewards.reading import Reading, read_completion
from medreasoner_training.rewards.scoring import reward, score
from medreasoner_training.rewards.trl_functions import RewardFunction, make_reward_functions

__all__ = [
    "BASE_TERMS",
    "HARD_TERMS",
    "MODE_TERMS",
    "OPERATING_IOU",
    "SOFT_TERMS",
    "CompletionTypeError",
    "GroundTruth",
    "GroundTruthError",
    "Mode",
    "Reading",
    "RewardConfig",
    "RewardConfigError",
    "RewardFunction",
    "TermExplanation",
    "Truth",
    "dice",
    "explain",
    "make_reward_functions",
    "mask_dice_reward",
    "metrics_as_released",
    "pdice_as_released",
    "read_completion",
    "read_ground_truth",
    "read_truth",
    "reward",
    "score",
]
