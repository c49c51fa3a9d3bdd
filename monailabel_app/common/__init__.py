# SPDX-License-Identifier: Apache-2.0
"""What every part of the app builds on: bounded input, private files, waiting, quiet logs."""
