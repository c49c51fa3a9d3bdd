# SPDX-License-Identifier: Apache-2.0
"""What was asked at a site, what was answered by which weights, and what readers made of it.

From the records alone; a mask is read only where a reader submitted one for the same answer.
"""
