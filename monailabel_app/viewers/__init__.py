# SPDX-License-Identifier: Apache-2.0
"""What is added to the viewers: the tab in OHIF and the module for 3D Slicer."""
