# SPDX-License-Identifier: Apache-2.0
"""A list of questions asked of all images of a site, over days and restarts if need be."""
