# SPDX-License-Identifier: Apache-2.0
"""Which file or series an image id stands for, and the volumes kept in memory."""
