# SPDX-License-Identifier: Apache-2.0
"""Experiments on the whole of fine-tuning; ``benchmarks/`` runs them."""
