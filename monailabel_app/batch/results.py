# SPDX-License-Identifier: Apache-2.0
"""What becomes of the answers of a batch."""

from __future__ import annotations

from enum import Enum


class Results(str, Enum):
    """What becomes of an answer.

    FILES: answer, mask and picture in the folder of the run. DATASET: a record of the site and a
    draft among the labels of its studies. SEG: a record of the site, and a segmentation and a
    report in the PACS or the folder of DICOM results.
    """

    FILES = "files"
    DATASET = "dataset"
    SEG = "seg"
