# SPDX-License-Identifier: Apache-2.0
"""Training of the embedded reasoner: a tiny Qwen2.5-VL on torso phantoms."""
