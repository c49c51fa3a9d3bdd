# SPDX-License-Identifier: Apache-2.0
"""Sizes of what was marked, from its mask and the image's geometry alone."""
