# SPDX-License-Identifier: Apache-2.0
"""The server: its routes, its streams and how it is started."""
