# SPDX-License-Identifier: Apache-2.0
"""Who may use the server, from where, and how much of it."""
