# SPDX-License-Identifier: Apache-2.0
"""The module's parts; all but ``scene`` need standard library and numpy only, Python 3.9."""
