# SPDX-License-Identifier: Apache-2.0
"""Results as DICOM: a Segmentation for the mask and a TID 1500 report for everything else.

``source`` opens and mends the image series; ``segmentation`` and ``report`` write; ``seg_reading``
and ``report_reading`` read; ``results`` joins both into what was on the screen. ``archive`` is
where the objects are kept, and ``submitting`` brings them there.
"""
