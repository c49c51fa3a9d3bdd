# The two commands that matter: `make demo` and `make test`. Everything else serves them.
PYTHON ?= $(shell command -v python3.11 || command -v python3.10 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
CONSTRAINTS := constraints/monailabel.txt
EXTRAS := monailabel,train,pacs,dev
STUDIES ?=
QUERY ?=
export OMP_NUM_THREADS ?= 2
export HF_HUB_OFFLINE ?= 1

# `make embedded-models`: where the trainings keep their checkpoints, public test data to judge by, and
# options of the trainings for a short trial.
RUNS ?= runs
DATA ?=
REASONER_OPTIONS ?=
SEGMENTER_OPTIONS ?=
AREAS ?=
MUTANTS_OPTIONS ?=
SHIPPED := medreasoner_infer/embedded
PACKAGES := medreasoner_infer monailabel_app training

.PHONY: install demo serve test test-fast lint audit mutants benchmark clean
.PHONY: embedded-models train-reasoner train-segmenter evaluate-embedded

install: $(VENV)/.installed

$(VENV)/.installed: setup.py $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --progress-bar off \
	  --constraint $(CONSTRAINTS) --editable '.[$(EXTRAS)]'
	touch $@

demo: install
	$(BIN)/medreasoner demo $(if $(STUDIES),--studies '$(STUDIES)') $(if $(QUERY),--query '$(QUERY)')

serve: install
	$(BIN)/medreasoner serve --studies $(or $(STUDIES),demo_studies)

test: install
	$(BIN)/python -m pytest

test-fast: install
	$(BIN)/python -m pytest -m 'not slow'

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml $(PACKAGES)
	files=$$(git ls-files) && \
	  $(BIN)/detect-secrets-hook --no-verify --baseline .secrets.baseline $$files

# Needs PyPI's vulnerability service, so no machine without the internet can be green by it.
audit: install
	$(BIN)/python scripts/audit.py $(CONSTRAINTS)

# Changes the code in one place at a time, in a copy, and tells what the quick tests let through; sampled,
# not part of CI. AREAS picks areas of scripts/mutants.yaml, MUTANTS_OPTIONS: e.g. '--sample 0 --seed 1'.
mutants: install
	$(BIN)/python scripts/mutants.py $(AREAS) $(MUTANTS_OPTIONS)

benchmark: install
	$(BIN)/python benchmarks/latency.py

# Both models from nothing, one core each; run it again after an interruption.
embedded-models: install
	$(MAKE) --jobs=2 train-reasoner train-segmenter
	cp $(RUNS)/reasoner/model/* $(SHIPPED)/reasoner/
	$(BIN)/python -m medreasoner_training.segmenter.average \
	  --first $(RUNS)/segmenter_chain/model.safetensors \
	  --last $(RUNS)/segmenter_growing/model.safetensors --out $(SHIPPED)/segmenter/model.safetensors
	$(BIN)/python -m medreasoner_training.curves --reasoner $(RUNS)/reasoner \
	  --segmenter $(RUNS)/segmenter \
	  --chains $(RUNS)/segmenter_chain $(RUNS)/segmenter_growing \
	  --out docs/images/embedded_training.png
	$(MAKE) evaluate-embedded

train-reasoner:
	OMP_NUM_THREADS=1 $(BIN)/python -m medreasoner_training.reasoner.train --out $(RUNS)/reasoner \
	  $(REASONER_OPTIONS)

# Prompted crops first, then clips in which it is prompted with its own last mask, at last longer ones
# with targets that grow and two looks at each slice.
train-segmenter:
	OMP_NUM_THREADS=1 $(BIN)/python -m medreasoner_training.segmenter.train --out $(RUNS)/segmenter \
	  $(SEGMENTER_OPTIONS)
	OMP_NUM_THREADS=1 $(BIN)/python -m medreasoner_training.segmenter.train --stage chain \
	  --init $(RUNS)/segmenter/model.safetensors --out $(RUNS)/segmenter_chain \
	  --steps 7000 --decay_steps 5000 --learning_rate 1e-3 --batch_size 6 --clip_length 4 \
	  $(SEGMENTER_OPTIONS)
	OMP_NUM_THREADS=1 $(BIN)/python -m medreasoner_training.segmenter.train --stage chain \
	  --init $(RUNS)/segmenter_chain/model.safetensors --out $(RUNS)/segmenter_growing --seed 1 \
	  --steps 4500 --decay_steps 3500 --learning_rate 1e-3 --batch_size 4 --clip_length 6 \
	  --growing 0.3 --looks 2 $(SEGMENTER_OPTIONS)

# Writes the figures of both cards and of docs/embedded_models.md; without DATA none on real images.
evaluate-embedded: install
	$(BIN)/python -m medreasoner_training.reasoner.evaluate --model $(SHIPPED)/reasoner \
	  $(if $(DATA),--data '$(DATA)')
	$(if $(DATA),$(BIN)/python -m medreasoner_training.segmenter.evaluate --data '$(DATA)' \
	  --out $(SHIPPED)/segmenter/evaluation.json --card $(SHIPPED)/segmenter/README.md \
	  --gallery docs/images/segmenter_sections.png, \
	  @echo 'DATA is not set: the figures in the segmenter'\''s card remain those of the weights that it names.')
	$(BIN)/python -m medreasoner_training.end_to_end.evaluate --out $(RUNS)/end_to_end.json \
	  --card docs/embedded_models.md \
	  $(if $(DATA),--data '$(DATA)' --gallery docs/images/end_to_end_ct.png)

clean:
	rm -rf $(VENV) .venv-vllm build dist *.egg-info demo_output demo_studies
