# SPDX-License-Identifier: Apache-2.0
"""MedReasoner as a MONAI Label app: tasks, routes, studies and records.

Importing this package loads nothing of MONAI Label; :mod:`monailabel_app.app` does.
"""
