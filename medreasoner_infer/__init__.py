# SPDX-License-Identifier: Apache-2.0
"""Ask a clinical question of a medical image; get reasoning, a box, two key points and a mask.

The library knows no server and no training. Start with :mod:`medreasoner_infer.pipeline`.
"""

__version__ = "0.1.0"
