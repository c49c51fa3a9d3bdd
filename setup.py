# SPDX-License-Identifier: Apache-2.0
"""Packaging. ``training/`` is importable as ``medreasoner_training``: sam2 owns ``training``."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "([^"]+)"', (ROOT / "medreasoner_infer/__init__.py").read_text(), re.M
).group(1)

MODEL_FILES = ["*.json", "*.jinja", "*.md", "*.safetensors", "*.txt", "*.yaml"]


def packages_under(folder: str, import_name: str) -> list[str]:
    """``folder`` and its sub-packages under the name they are imported by."""
    return [import_name] + [f"{import_name}.{name}" for name in find_packages(folder)]


setup(
    name="medreasoner",
    version=VERSION,
    description="Ask a clinical question of a medical image in OHIF or 3D Slicer; get reasoning, "
    "box, key points and mask. A MONAI Label app.",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    author="The MedReasoner for MONAI Label authors",
    python_requires=">=3.10,<3.12",
    packages=packages_under("medreasoner_infer", "medreasoner_infer")
    + packages_under("monailabel_app", "monailabel_app")
    + packages_under("training", "medreasoner_training"),
    package_dir={"medreasoner_training": "training"},
    package_data={
        "medreasoner_infer": [
            f"{d}/{p}" for d in ("embedded/*", "segmenters/*") for p in MODEL_FILES
        ]
        + ["embedded/*/*/*.json", "models/*.yaml"],
        "monailabel_app": [
            "dicom/*.yaml",
            "viewers/ohif/static/*",
            "security/*.html",
            "viewers/slicer/CMakeLists.txt",
            "viewers/slicer/MedReasoner/CMakeLists.txt",
            "viewers/slicer/MedReasoner/*.py",
            "viewers/slicer/MedReasoner/*/*.py",
            "viewers/slicer/MedReasoner/Resources/Icons/*.png",
            "store/migrations/*.mako",
            "store/migrations/*.ini",
        ],
        "medreasoner_training": ["*/*.yaml", "*/configs/*.yaml", "*/configs/accelerate/*.yaml"],
    },
    entry_points={"console_scripts": ["medreasoner = monailabel_app.cli:main"]},
    install_requires=[
        "numpy>=1.26,<2.5",
        "scipy>=1.11,<2",
        "torch>=2.6,<3",
        "torchvision>=0.21,<1",
        "transformers>=5.10,<6",
        "accelerate>=1.8,<2",
        "safetensors>=0.5,<1",
        "huggingface-hub>=1.0,<3",
        "xgrammar>=0.1.25,<0.3",
        "sam2>=1.1,<2",
        "omegaconf>=2.3,<3",
        "hydra-core>=1.3,<2",
        "pydicom>=2.4.4,<4",
        "pylibjpeg>=2.0,<3",
        "pylibjpeg-openjpeg>=2.3,<3",
        "pylibjpeg-libjpeg>=2.2,<3",
        "SimpleITK>=2.4,<3",
        "nibabel>=5.2,<6",
        "pillow>=11,<14",
        "matplotlib>=3.9,<4",
        "pyyaml>=6,<7",
        "typer>=0.16,<1",
        "rich>=13.9,<16",
        "openai>=2,<4",
        "httpx>=0.27,<1",
        "filelock>=3.12,<5",
    ],
    extras_require={
        "monailabel": [
            "monailabel>=0.8.5,<0.9",
            "monai>=1.5,<2",
            "pydicom>=2.4.4,<3",
            "numpy>=1.26,<2",
            "sqlalchemy>=2.0.30,<3",
            "alembic>=1.14,<2",
            "highdicom>=0.22,<0.27",
            "psutil>=6,<8",
            "starlette>=1.7,<2",  # starlette.middleware.body_limit
            "pydantic-settings>=2.7,<3",
            "itsdangerous>=2.2,<3",
            "limits>=4,<6",
            "sse-starlette>=3,<4",
            "jinja2>=3.1,<4",
        ],
        "vllm": ["vllm>=0.19,<0.34"],
        "train": [
            "torch>=2.9,<3",  # torch.optim.Muon
            "trl>=1.10,<2",
            "monai>=1.5,<2",
            "peft>=0.17,<1",
            "datasets>=4,<6",
            "tensorboard>=2.18,<3",
        ],
        "pacs": ["highdicom>=0.22,<0.27", "dicomweb-client>=0.60,<1"],
        "dev": [
            "pytest>=8,<10",
            "pytest-timeout>=2.3,<3",
            "playwright>=1.45,<2",
            "dcmqi>=1.5,<2",
            "hypothesis>=6.100,<7",
            "ruff>=0.11,<1",
            "build>=1.2,<2",
            "psutil>=6,<8",
            "bandit>=1.9,<2",
            "detect-secrets>=1.5,<2",
            "pip-audit>=2.10,<3",
            "schemathesis>=4.30,<5",
            "cosmic-ray>=8.4,<9",
        ],
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Healthcare Industry",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
    ],
)
