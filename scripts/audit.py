# SPDX-License-Identifier: Apache-2.0
"""Ask PyPI's vulnerability service about every pinned package, and say what it could not tell.

Run: ``python scripts/audit.py [CONSTRAINTS]``. pip-audit itself ends well where PyPI knows none of
the packages, as an index that serves files alone does. Exit status: 0 if all were asked about and
none has a known vulnerability, 1 if one has, 69 if the service did not tell.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints" / "monailabel.txt"
UNAVAILABLE = 69  # EX_UNAVAILABLE of sysexits.h
_TIMEOUT_S = 15


def main() -> int:
    """Audit the file that is named, else the constraints of the tested environment."""
    pins = Path(sys.argv[1]) if len(sys.argv) > 1 else CONSTRAINTS
    packages = audited(pins)
    if packages is None:
        return UNAVAILABLE
    asked = [package for package in packages if "skip_reason" not in package]
    vulnerable = [package for package in asked if package["vulns"]]
    for package in vulnerable:
        known = ", ".join(found["id"] for found in package["vulns"])
        print(f"{package['name']} {package['version']}: {known}")
    print(f"{len(asked)} of {len(packages)} packages asked about, {len(vulnerable)} vulnerable.")
    if vulnerable:
        return 1
    if len(asked) < len(packages):
        print("The service does not know the others: this is no clean audit.", file=sys.stderr)
        return UNAVAILABLE
    return 0


def audited(pins: Path) -> list[dict] | None:
    """What pip-audit tells of each package; ``None``, said why, where it cannot ask."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip_audit", "--requirement", str(pins), "--no-deps"]
        command += ["--disable-pip", "--timeout", str(_TIMEOUT_S), "--progress-spinner", "off"]
        command += ["--format", "json", "--output", str(report)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if report.is_file():
            return json.loads(report.read_text())["dependencies"]
    last = done.stderr.strip().splitlines()[-1:]
    print(f"The vulnerability service could not be asked: {' '.join(last)}", file=sys.stderr)
    return None


if __name__ == "__main__":
    sys.exit(main())
