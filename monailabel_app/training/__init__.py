# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning started from the server or the command line.

Approved labels are exported into a data set, a run's folder gets its configuration, and
``python -m medreasoner_training.finetune`` trains in a process of its own, which outlives a killed
server. A lock file tells who trains; everything else that is known of a run lies in its folder.
Layout, below the app's data folder::

    training/lock.json        which processes train, and in which folder
    training/latest.json      the folder of the run that was started last
    training/preparing/       what is told of a start before its run has a folder
    training/datasets/HASH/   exported data sets by their content
    training/runs/NAME/       config.yaml, progress.json, trainer.log, checkpoints
"""
