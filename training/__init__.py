# SPDX-License-Identifier: Apache-2.0
"""Training and evaluation of MedReasoner's models; imported as ``medreasoner_training``."""
