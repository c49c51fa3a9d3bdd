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

.PHONY: install demo serve test test-fast lint benchmark clean

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

benchmark: install
	$(BIN)/python benchmarks/latency.py

clean:
	rm -rf $(VENV) .venv-vllm build dist *.egg-info demo_output demo_studies
