#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Install what the tests in a browser use: an archive as the PACS tests do, and Chromium. Playwright
# comes with the extra "dev" and drives the system's Chromium, so it downloads no browser; its own
# program needs libatomic.
set -euo pipefail
exec "$(dirname "${BASH_SOURCE[0]}")/setup_pacs.sh" chromium libatomic1
