# SPDX-License-Identifier: Apache-2.0
"""The command line answers before it loads what its commands work with."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

SLOW = {"torch", "torchvision", "transformers", "monai", "monailabel", "matplotlib", "SimpleITK"}
SLOW |= {"sqlalchemy", "alembic", "nibabel", "pydicom"}
PROGRAM = """
import json, sys
sys.argv = ["medreasoner", *{arguments!r}]
from monailabel_app.cli import main
try:
    main()
except SystemExit as end:
    code = end.code or 0
print(json.dumps([code, sorted(name for name in sys.modules if "." not in name)]))
"""


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["ask", "--help"], ["models"], ["train", "--help"]]
)
def test_help_loads_no_model_library(arguments: list[str]) -> None:
    program = PROGRAM.format(arguments=arguments)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    code, loaded = json.loads(done.stdout.splitlines()[-1])
    assert code == 0
    assert "typer" in loaded
    assert SLOW.isdisjoint(loaded)
