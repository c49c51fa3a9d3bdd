# SPDX-License-Identifier: Apache-2.0
"""Which models there are, under which licence, and how a name becomes a loaded engine."""
