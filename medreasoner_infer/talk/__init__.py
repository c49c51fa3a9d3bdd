# SPDX-License-Identifier: Apache-2.0
"""Talk: what a question refers to in an earlier answer, told without a model."""
