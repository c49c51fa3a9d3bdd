# SPDX-License-Identifier: Apache-2.0
"""Where images come from and labels go to: a folder of studies, or a DICOMweb server."""

from __future__ import annotations

#: MONAI Label's index in a folder of studies; known without MONAI Label.
INDEX_NAME = "datastore_v2.json"
