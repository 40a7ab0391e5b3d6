# Every target sets itself up: a machine with Python 3.11 and make is enough. Nothing here needs root.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# At most two threads: the figures in the documentation were taken so, and a laptop stays usable.
export OMP_NUM_THREADS ?= 2
# Compile bytecode at install: `import lightning` takes 18 s without and 5 s with it on a small machine.
export UV_COMPILE_BYTECODE := 1
# uv does not read pip's own settings: pass a local folder of wheels on, where a site has one.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)

.PHONY: help setup demo demo-prior demo-biggan test check format bench notebooks soak soak-kills soak-inputs mutations new-room constraints clean

help: ## say what each target does
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(STAMP) ## make .venv with the pinned environment (quick the second time)

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 was not found as '$(PYTHON)'. Install it, or say where it is: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Setting up $(VENV) (a few GB with PyTorch; the second time is quick) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv 2>/dev/null || echo "uv is not to be had here: pip does the work, more slowly."
	@if [ -x $(BIN)/uv ]; then VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --constraint constraints.txt --editable '.[dev]'; \
	else $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'; fi
	@touch $@
	@echo "Ready: $(BIN)/lightning --help"

demo: $(STAMP) ## train a small GP-UNIT on rendered scenes, minutes on a laptop, and show a picture
	$(BIN)/lightning fit --config zoo/gpunit.yaml --config configs/demo/gpunit.yaml

demo-prior: $(STAMP) ## distil the content encoder that the demo stands on from rendered pairs, and write it into the package
	$(BIN)/lightning fit --config zoo/gpunit_prior.yaml --config configs/demo/gpunit_prior.yaml
	$(BIN)/python -m zoo.gpunit.export

demo-biggan: $(STAMP) ## the whole road: a small BigGAN, pairs that it draws, a content encoder from them, GP-UNIT on it
	$(BIN)/python -m zoo.cli.demo_biggan $(if $(NAME),--name $(NAME))

check: $(STAMP) ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP) ## put the code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: $(STAMP) ## the tests, with line coverage
	$(BIN)/python -m pytest -n 2 --dist worksteal --cov --cov-report=term

bench: $(STAMP) ## measure start-up, scenes, loading, training iterations and what processes send
	$(BIN)/python tests/benchmarks

notebooks: $(STAMP) ## make the notebooks from their scripts and run them
	OMP_NUM_THREADS=1 $(BIN)/python notebooks/build.py

MINUTES ?= 60
soak: $(STAMP) ## train for an hour and see whether memory, handles and threads stay flat: make soak MINUTES=60
	$(BIN)/python tests/benchmarks/soak.py --minutes $(MINUTES)

KILLS ?= 200
soak-kills: $(STAMP) ## kill trainings of every room and compare what is resumed with what was left alone: make soak-kills KILLS=200
	$(BIN)/python tests/benchmarks/soak_kills.py --count $(KILLS)

CASES ?= 10000
soak-inputs: $(STAMP) ## give it bad pictures, folders, checkpoints and recipes, a sentence for each: make soak-inputs CASES=10000
	$(BIN)/python tests/benchmarks/soak_inputs.py --count $(CASES)

MUTANTS ?= 30
mutations: $(STAMP) ## change signs, detaches, weights and orders in rooms, and see whether their tests notice: make mutations MUTANTS=30
	$(BIN)/python tests/benchmarks/mutations.py --count $(MUTANTS)

new-room: $(STAMP) ## start a room for a new paper: make new-room NAME=mypaper
	@$(BIN)/python -m zoo.cli.new_room $(NAME)

constraints: $(STAMP) ## pin the whole environment again, by version alone
	$(BIN)/uv pip compile pyproject.toml --extra dev --extra ray --extra streaming --universal --python-version 3.11 --no-header --no-annotate --upgrade --quiet --output-file constraints.txt

clean: ## remove the environment and caches (runs are kept)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .coverage* dist
