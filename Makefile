# The two commands of the README, and the shorthands people expect.
PYTHON ?= python3
CORES ?= $(shell nproc)
BIN := .venv/bin
SNAKEFILES := Snakefile $(wildcard workflow/rules/*.smk)

.PHONY: help benchmark test slow bench lint format docs encoders rulegraph clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

benchmark: .venv/installed ## run the demo to results/benchmark.txt
	$(BIN)/snakemake --cores $(CORES)
	@cat results/benchmark.txt

test: lint ## lint, then run the tests
	$(BIN)/python -m pytest -m "not slow" --numprocesses auto --dist worksteal

# Here the tests of a file build on what the file has made, such as a Slurm cluster.
slow: .venv/installed ## run the tests that take minutes, such as those on Slurm
	$(BIN)/python -m pytest -m slow -rs --numprocesses auto --dist loadfile

bench: .venv/installed ## measure speed beside the alternatives; writes benchmarks/README.md
	$(BIN)/python benchmarks/report.py

lint: .venv/installed ## check style, types and the workflow
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check $(SNAKEFILES)
	$(BIN)/lint-imports --no-cache
	$(BIN)/snakemake --lint

format: .venv/installed ## rewrite the sources in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt $(SNAKEFILES)

docs: .venv/installed ## write config/README.md and the config's JSON schema
	$(BIN)/python workflow/scripts/config_docs.py

encoders: .venv/installed ## list the encoders of the installed timm; takes minutes
	$(BIN)/python workflow/scripts/encoder_list.py

rulegraph: .venv/installed ## draw docs/rulegraph.svg (needs graphviz)
	$(BIN)/snakemake --cores 1 --rulegraph | dot -Grankdir=LR -Tsvg -o docs/rulegraph.svg

# Of data/raw, only what the pipeline has unpacked; there Snakemake leaves a time stamp.
clean: ## remove the environment, caches and prepared data; keep archives, own data and results
	rm -rf .venv .snakemake .mypy_cache .pytest_cache .ruff_cache data/prepared
	test ! -d data/raw || find data/raw -mindepth 2 -maxdepth 2 -name .snakemake_timestamp -execdir sh -c 'rm -r "$$PWD"' \;

# venv and pip only install uv; uv then installs the lock, four times faster than pip. All of it is
# compiled to bytecode here: where PYTHONDONTWRITEBYTECODE is set, as in many images and CI systems,
# nothing else ever writes it, and every process would compile PyTorch anew. Python notices by the
# time of a source that it has changed since.
.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' requirements.lock)"
	$(BIN)/python -m uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.lock
	$(BIN)/python -m uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	$(BIN)/python -m compileall -q dsrl
	touch $@
