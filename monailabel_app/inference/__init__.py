# SPDX-License-Identifier: Apache-2.0
"""One way for a question: from checked params to a recorded answer."""
