# SPDX-License-Identifier: Apache-2.0
"""How the embedded models are made and measured: synthetic patients, trainings, model cards."""
