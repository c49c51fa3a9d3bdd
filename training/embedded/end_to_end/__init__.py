# SPDX-License-Identifier: Apache-2.0
"""The embedded reasoner and segmenter judged together, from question to mask."""
