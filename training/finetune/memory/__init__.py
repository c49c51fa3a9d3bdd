# SPDX-License-Identifier: Apache-2.0
"""How much memory a run takes of a GPU, reckoned before any weight is loaded."""
