# SPDX-License-Identifier: Apache-2.0
"""From labels that readers approved to a data set of samples without patient identifiers."""
