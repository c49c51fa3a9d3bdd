# SPDX-License-Identifier: Apache-2.0
"""One place for a site: where its studies, records, results and sessions lie."""
