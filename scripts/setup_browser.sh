#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Install what tests/test_ohif_browser.py needs: scripts/setup_browser.sh [VENV]
#
# Chromium and Orthanc with its DICOMweb plugin come from Debian, Playwright's Python package from
# PyPI. Playwright drives the system's Chromium, so it downloads no browser of its own.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
environment=${1:-"$root/.venv"}

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

as_root apt-get update
as_root apt-get install --yes --no-install-recommends chromium orthanc orthanc-dicomweb
# Only the programs are wanted; the tests start an Orthanc of their own.
if command -v systemctl >/dev/null; then as_root systemctl disable --now orthanc || true; fi
"$environment/bin/python" -m pip install --constraint "$root/constraints/monailabel.txt" playwright
chromium --version
