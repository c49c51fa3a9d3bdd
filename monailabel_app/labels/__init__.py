# SPDX-License-Identifier: Apache-2.0
"""Masks that readers submit: their segments' names and codes, and the grid of their image."""
