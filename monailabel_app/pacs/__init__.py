# SPDX-License-Identifier: Apache-2.0
"""A DICOMweb server as a peer: connection, limits, typed faults, searching and fetching series."""
