# SPDX-License-Identifier: Apache-2.0
"""Which files are shipped; all else about the package stands in pyproject.toml.

``training/`` is importable as ``medreasoner_training``: sam2 owns ``training``.
"""

from __future__ import annotations

from setuptools import find_packages, setup

MODEL_FILES = ["*.json", "*.jinja", "*.md", "*.safetensors", "*.txt", "*.yaml"]


def packages_under(folder: str, import_name: str) -> list[str]:
    """``folder`` and its sub-packages under the name they are imported by."""
    return [import_name] + [f"{import_name}.{name}" for name in find_packages(folder)]


setup(
    packages=packages_under("medreasoner_infer", "medreasoner_infer")
    + packages_under("monailabel_app", "monailabel_app")
    + packages_under("training", "medreasoner_training"),
    package_dir={"medreasoner_training": "training"},
    package_data={
        "medreasoner_infer": [
            f"{d}/{p}" for d in ("embedded/*", "segmenters/*") for p in MODEL_FILES
        ]
        + [
            "embedded/*/*/*.json",
            "checks/*.yaml",
            "language/*.yaml",
            "language/*/*.yaml",
            "models/*.yaml",
            "py.typed",
        ],
        "monailabel_app": [
            "audit/*.html",
            "dicom/*.yaml",
            "py.typed",
            "viewers/ohif/static/*",
            "viewers/pages/*.html",
            "security/*.html",
            "viewers/slicer/CMakeLists.txt",
            "viewers/slicer/MedReasoner/CMakeLists.txt",
            "viewers/slicer/MedReasoner/*.py",
            "viewers/slicer/MedReasoner/*/*.py",
            "viewers/slicer/MedReasoner/Resources/Icons/*.png",
            "store/migrations/*.mako",
            "store/migrations/*.ini",
        ],
        "medreasoner_training": ["**/*.yaml", "**/*.html", "py.typed"],
    },
)
