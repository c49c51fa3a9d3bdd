# SPDX-License-Identifier: Apache-2.0
"""Training of the small SAM2 segmenter on synthetic scenes, and its evaluation on real images."""
