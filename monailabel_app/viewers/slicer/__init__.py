# SPDX-License-Identifier: Apache-2.0
"""The extension for 3D Slicer: ``MedReasoner/`` is a scripted module, loaded by Slicer itself.

Its Python is Slicer's (3.9 with numpy), so nothing in it imports this package.
"""
