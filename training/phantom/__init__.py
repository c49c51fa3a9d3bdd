# SPDX-License-Identifier: Apache-2.0
"""A three-dimensional torso phantom: labelled CT-like sections and studies from a seed."""
