# SPDX-License-Identifier: Apache-2.0
"""Where images come from and labels go to: a folder of studies, or a DICOMweb server."""
