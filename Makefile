# The two commands that matter: `make demo` and `make test`. Everything else serves them.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.10 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
CONSTRAINTS := constraints/monailabel.txt
WHAT_IS_INSTALLED := pyproject.toml setup.py scripts/install.py $(wildcard constraints/*.txt)
# Packages for NVIDIA GPUs: yes, no, or auto (if there is one); the program that installs: uv or pip.
GPU ?= auto
INSTALLER ?= uv
# Programs of the environment that others start by name: pre-commit's hooks, Node's.
ON_PATH := PATH="$(abspath $(BIN)):$$PATH"
# medreasoner_training under its own name, for what reads files without importing them.
LINKS := build/links/medreasoner_training
STUDIES ?=
QUERY ?=
export OMP_NUM_THREADS ?= 2
export HF_HUB_OFFLINE ?= 1
# Modules are compiled when they are first imported, not all of them by the installation.
unexport PYTHONDONTWRITEBYTECODE

# `make embedded-models`: where the trainings keep their checkpoints, public test data to judge by, and
# options of the trainings for a short trial.
RUNS ?= runs
DATA ?=
REAL_DATA_OPTION = $(if $(wildcard $(DATA)/real/manifest.json),--real_data '$(DATA)/real')
REASONER_OPTIONS ?=
SEGMENTER_OPTIONS ?=
AREAS ?=
MUTANTS_OPTIONS ?=
SHIPPED := medreasoner_infer/embedded

.PHONY: install install-run demo serve test test-fast test-viewers lint docs audit mutants benchmark clean
.PHONY: embedded-models train-reasoner train-reasoner-small train-segmenter evaluate-embedded

install: $(VENV)/.installed

# What a server needs, without the tools of developers and the trainer.
install-run: $(VENV)/.installed-run

$(VENV)/.installed-run: $(WHAT_IS_INSTALLED)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python scripts/install.py run --gpu $(GPU) --installer $(INSTALLER)
	touch $@

$(VENV)/.installed: $(VENV)/.installed-run
	$(BIN)/python scripts/install.py all --gpu $(GPU) --installer $(INSTALLER)
	touch $@

demo: install-run
	$(BIN)/medreasoner demo $(if $(STUDIES),--studies '$(STUDIES)') $(if $(QUERY),--query '$(QUERY)')

serve: install-run
	$(BIN)/medreasoner serve --studies $(or $(STUDIES),demo_studies)

# A file of tests for each core at a time; what a test computes itself takes one core.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile

test: install test-viewers
	$(PYTEST)

test-fast: install test-viewers
	$(PYTEST) -m 'not slow'

test-viewers: install
	$(ON_PATH) node --test tests/ohif/*.test.js

# .pre-commit-config.yaml lists the checks.
lint: install $(LINKS) node_modules/.package-lock.json
	$(ON_PATH) pre-commit run --all-files --show-diff-on-failure

docs: install $(LINKS)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

$(LINKS):
	mkdir -p $(@D)
	ln -sfn ../../training $@

node_modules/.package-lock.json: package.json package-lock.json | install
	$(ON_PATH) npm ci --ignore-scripts --no-audit --no-fund
	touch $@

# Needs PyPI's vulnerability service, so no machine without the internet can be green by it.
audit: install
	$(BIN)/python scripts/audit.py $(CONSTRAINTS)

# Changes the code in one place at a time, in a copy, and tells what the quick tests let through; sampled,
# not part of CI. AREAS picks areas of scripts/mutants.yaml, MUTANTS_OPTIONS: e.g. '--sample 0 --seed 1'.
mutants: install
	$(BIN)/python scripts/mutants.py $(AREAS) $(MUTANTS_OPTIONS)

benchmark: install
	$(BIN)/python benchmarks/latency.py

# Reasoners and segmenter from nothing, one core each; run it again after an interruption.
embedded-models: install
	$(MAKE) --jobs=2 train-reasoner train-segmenter
	cp $(RUNS)/reasoner_small/model/* $(SHIPPED)/reasoner_small/
	cp $(RUNS)/reasoner/model/* $(SHIPPED)/reasoner/
	$(BIN)/python -m medreasoner_training.embedded.average \
	  --first $(RUNS)/reasoner_findings/model/model.safetensors \
	  --last $(RUNS)/reasoner/model/model.safetensors --out $(SHIPPED)/reasoner/model.safetensors
	$(BIN)/python -m medreasoner_training.embedded.reasoner.kinds --model $(SHIPPED)/reasoner \
	  $(REAL_DATA_OPTION)
	$(BIN)/python -m medreasoner_training.embedded.average \
	  --first $(RUNS)/segmenter_chain/model.safetensors \
	  --last $(RUNS)/segmenter_growing/model.safetensors --out $(SHIPPED)/segmenter/model.safetensors
	$(BIN)/python -m medreasoner_training.embedded.curves --reasoner $(RUNS)/reasoner_small \
	  --segmenter $(RUNS)/segmenter \
	  --chains $(RUNS)/segmenter_chain $(RUNS)/segmenter_growing \
	  --out docs/images/embedded_training.png
	$(MAKE) evaluate-embedded

train-reasoner-small: install
	OMP_NUM_THREADS=1 $(BIN)/python -m medreasoner_training.embedded.reasoner.train \
	  --out $(RUNS)/reasoner_small $(REASONER_OPTIONS)

# On top of the small one the clinical vocabulary, first without images on a larger text side, then with
# them, in three rounds; DATA/real holds public images that may be trained on.
train-reasoner: train-reasoner-small
	OMP_NUM_THREADS=1 $(BIN)/python -m medreasoner_training.embedded.reasoner.train --stage words \
	  --init $(RUNS)/reasoner_small/model --out $(RUNS)/reasoner_words \
	  --steps 1500 --batch 8 --beginnings 10 --decay_share 0.5 $(REASONER_OPTIONS)
	OMP_NUM_THREADS=1 $(BIN)/python -m medreasoner_training.embedded.reasoner.train --stage vocabulary \
	  --init $(RUNS)/reasoner_words/model --out $(RUNS)/reasoner_vocabulary \
	  --steps 4800 --beginnings 6 --lr 1e-3 --decay_share 0.8 \
	  $(REAL_DATA_OPTION) $(REASONER_OPTIONS)
	OMP_NUM_THREADS=1 $(BIN)/python -m medreasoner_training.embedded.reasoner.train --stage vocabulary \
	  --init $(RUNS)/reasoner_vocabulary/model --out $(RUNS)/reasoner_findings \
	  --steps 5400 --beginnings 6 --lr 1e-3 --decay_share 0.9 --seed 1142 \
	  $(REAL_DATA_OPTION) $(REASONER_OPTIONS)
	OMP_NUM_THREADS=1 $(BIN)/python -m medreasoner_training.embedded.reasoner.train --stage vocabulary \
	  --init $(RUNS)/reasoner_findings/model --out $(RUNS)/reasoner \
	  --steps 4600 --beginnings 6 --lr 1e-3 --decay_share 0.9 --seed 2142 \
	  $(REAL_DATA_OPTION) $(REASONER_OPTIONS)

# Prompted crops first, then clips in which it is prompted with its own last mask, at last longer ones
# with targets that grow and two looks at each slice.
train-segmenter:
	OMP_NUM_THREADS=1 $(BIN)/python -m medreasoner_training.embedded.segmenter.train \
	  --out $(RUNS)/segmenter $(SEGMENTER_OPTIONS)
	OMP_NUM_THREADS=1 $(BIN)/python -m medreasoner_training.embedded.segmenter.train --stage chain \
	  --init $(RUNS)/segmenter/model.safetensors --out $(RUNS)/segmenter_chain \
	  --steps 7000 --decay_steps 5000 --learning_rate 1e-3 --batch_size 6 --clip_length 4 \
	  $(SEGMENTER_OPTIONS)
	OMP_NUM_THREADS=1 $(BIN)/python -m medreasoner_training.embedded.segmenter.train --stage chain \
	  --init $(RUNS)/segmenter_chain/model.safetensors --out $(RUNS)/segmenter_growing --seed 1 \
	  --steps 4500 --decay_steps 3500 --learning_rate 1e-3 --batch_size 4 --clip_length 6 \
	  --growing 0.3 --looks 2 $(SEGMENTER_OPTIONS)

# Writes the figures of the cards and of docs/embedded_models.md; without DATA none on real images.
evaluate-embedded: install
	$(BIN)/python -m medreasoner_training.embedded.reasoner.evaluate --model $(SHIPPED)/reasoner \
	  $(if $(DATA),--data '$(DATA)') $(REAL_DATA_OPTION)
	$(BIN)/python -m medreasoner_training.embedded.reasoner.evaluate --model $(SHIPPED)/reasoner_small \
	  $(if $(DATA),--data '$(DATA)') $(REAL_DATA_OPTION)
	$(if $(DATA),$(BIN)/python -m medreasoner_training.embedded.segmenter.evaluate --data '$(DATA)' \
	  --out $(SHIPPED)/segmenter/evaluation.json --card $(SHIPPED)/segmenter/README.md \
	  --gallery docs/images/segmenter_sections.png, \
	  @echo 'DATA is not set: the figures in the segmenter'\''s card remain those of the weights that it names.')
	$(BIN)/python -m medreasoner_training.embedded.end_to_end.evaluate --out $(RUNS)/end_to_end.json \
	  --card docs/embedded_models.md \
	  $(if $(DATA),--data '$(DATA)' --gallery docs/images/end_to_end_ct.png)

clean:
	rm -rf $(VENV) .venv-vllm node_modules build dist *.egg-info demo_output demo_studies
