# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with the files of the clinical vocabulary."""

from __future__ import annotations

from medreasoner_infer.errors import InputError


class VocabularyError(InputError):
    """A file of the vocabulary is missing, is no YAML, or says something that cannot be."""
