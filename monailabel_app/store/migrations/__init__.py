# SPDX-License-Identifier: Apache-2.0
"""Alembic's migrations of the records; applied whenever the store is opened."""
