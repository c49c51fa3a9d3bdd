# SPDX-License-Identifier: Apache-2.0
"""An inference told step by step: reasoning as it is written, then the masks as they are made."""
