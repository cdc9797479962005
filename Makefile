# Everything runs in .venv, which engine_config/install.py makes and keeps up to date.
.DEFAULT_GOAL := help
.PHONY: help serve test proofs lint check coverage docs format clean bench bench-quick bench-micro chaos fairness gpu-config conformance schemathesis soak audit constraints hostile mutants fuzz full-shape gpu-check clients frontends fresh-machine
MAKEFLAGS += --no-print-directory
unexport PYTHONPATH PYTHONHOME # Other versions of our packages may be there.

PORT ?= 8000
PROFILE ?=
ENGINE ?=

# The first Python that vLLM's wheels are made for.
PYTHON = $(or $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -I -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' && echo $$python && break; done 2>/dev/null),\
	$(error Python 3.11 to 3.14 is needed, and none is on PATH))
SETUP = @$(PYTHON) -I engine_config/install.py $(if $(ENGINE),--engine $(ENGINE))

help: ## List the targets.
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 13

serve: ## Set up and run the gateway here (PORT=8000 PROFILE=name ENGINE=cpu|gpu).
	$(SETUP)
	@exec .venv/bin/llava-gateway serve --port $(PORT) $(if $(PROFILE),--profile $(PROFILE))

test: ## Set up and run the tests, those on the real engine included.
	$(SETUP) --dev
	@.venv/bin/pytest -m "not engine and not proof" -n 2 --dist worksteal
	@.venv/bin/pytest -m "engine and not proof"

proofs: ## The long tests: two layers of the 7B against transformers, the notebook, the GPU check, a forked core.
	$(SETUP) --dev
	@.venv/bin/pytest -m proof --timeout 900 -rP $(ARGS)

lint: ## Set up, then lint, types and import contracts.
	$(SETUP) --dev
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports

check: lint ## `make lint`, then the fast tests without the engine.
	.venv/bin/pytest -m "not engine and not proof and not slow" --ignore tests/engine --ignore tests/tools/full_shape -n logical --maxprocesses 4 --dist worksteal

coverage: ## Branch coverage of the tests without the engine (ARGS=--cov-report=html).
	$(SETUP) --dev
	.venv/bin/pytest -m "not engine and not proof" --ignore tests/engine --ignore tests/tools/full_shape -n logical --maxprocesses 4 --dist worksteal \
		--cov gateway --cov engine_config --cov-branch --cov-report term:skip-covered $(ARGS)

docs: ## Build the docs' site into site/; warnings are errors.
	$(SETUP) --dev
	@.venv/bin/python -m pip install --quiet --editable '.[docs]'
	@NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict

format: ## Format the code and apply ruff's fixes.
	$(SETUP) --dev
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

clean: ## Remove .venv, every cache and what the targets below leave.
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .benchmarks .coverage* *.egg-info build dist
	rm -rf site .clients .mutants .frontends .helm .helm-js .fuzz .gpu-config tools/bench/results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

bench: ## Compare with vLLM's own server on this machine: table, JSON and chart (ARGS="--py-spy --record", ARGS=--curve, --overload or --turns).
	$(SETUP) --dev
	@.venv/bin/python -m tools.bench $(ARGS)

bench-quick: ## A small round of the comparison, held against the recorded one.
	$(SETUP) --dev
	@.venv/bin/python -m tools.bench --quick $(ARGS)

bench-micro: ## Measure what the gateway's own code costs, a request and a token.
	$(SETUP) --dev
	@.venv/bin/pytest tests/tools/bench/test_micro.py --benchmark-enable --benchmark-only

chaos: ## Honest load with every fault in turn, one table (ARGS="--write --only NAME").
	$(SETUP) --dev
	@.venv/bin/python -m tools.chaos $(ARGS)

fairness: ## Another caller's texts under each flood, on the real engine: 30 s each, 300 pictures at once.
	$(SETUP) --dev
	@FAIRNESS_SECONDS=30 FAIRNESS_PICTURES=300 .venv/bin/pytest --timeout 600 -rP tests/engine/test_fairness.py

gpu-config: ## vLLM's configuration of every profile on every known GPU, without one (1 GB to fetch; ARGS=--record).
	$(SETUP) --dev
	@.venv/bin/python -m tools.gpu_config $(ARGS)

conformance: ## Run other people's checks of OpenAI's API; writes docs/reports/conformance.md.
	$(SETUP) --dev
	@.venv/bin/python -m tools.conformance

schemathesis: ## Requests made from the API's description, 100 a route (EXAMPLES=500).
	$(SETUP) --dev
	@SCHEMATHESIS_EXAMPLES=$(or $(EXAMPLES),100) SCHEMATHESIS_TIMEOUT=1700 \
		SCHEMATHESIS_PHASES=examples,coverage,fuzzing,stateful \
		.venv/bin/pytest -s --timeout 1800 tests/api/test_schemathesis.py

soak: ## 10,000 different pictures, and what memory they leave taken (ARGS="--hostile 240": attacks on the memory).
	$(SETUP) --dev
	@.venv/bin/python -m tools.bench.soak $(ARGS)

audit: ## Look the installed packages up in a database of known weaknesses (needs the internet).
	$(SETUP) --dev
	@.venv/bin/python -m venv .venv/audit && .venv/audit/bin/pip install -q pip-audit
	@.venv/audit/bin/pip-audit --path $$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') --strict $(ARGS)

constraints: ## Write the tested versions down in engine_config/constraints/ (needs the internet).
	$(SETUP) --dev
	@.venv/bin/python -m venv .venv/constraints && .venv/constraints/bin/pip install -q uv
	@.venv/bin/python -m engine_config.constraints .venv/constraints/bin/uv

hostile: ## Pillow's own test files (47 MB to fetch); sampling extremes and image caches on the real engine.
	$(SETUP) --dev
	@HOSTILE_EXTREMES=1500 .venv/bin/pytest --timeout 1800 tests/hostile/pillow_files.py tests/hostile/test_extremes.py tests/hostile/picture_caches.py $(ARGS)

mutants: ## Change one thing of the code at a time: how much of it do the tests catch? (ARGS="--count 200 --seed 0")
	$(SETUP) --dev
	@.venv/bin/python -m tools.mutants $(ARGS)

fuzz: ## Search for bytes that break decoding, URLs or fetching, guided by coverage (SECONDS=60 for each; finds in .fuzz/).
	$(SETUP) --dev
	@.venv/bin/python -m tools.fuzz $(or $(SECONDS),60) $(ARGS)

full-shape: ## LLaVA-1.5-7B's full shape with random weights: speed, memory, checks (21 GB free; ARGS="--write PAGE").
	$(SETUP) --dev
	@.venv/bin/python -m tools.full_shape $(ARGS)

gpu-check: ## On a machine with a GPU: driver, set-up, profiles, answers, speed; one report (ARGS="--profiles NAME,NAME").
	$(SETUP) --dev
	@.venv/bin/python -m tools.gpu_check $(ARGS)

clients: ## The clients people use, each in an environment of its own, on the real engine (CLIENT=name ARGS=--write).
	$(SETUP) --dev
	@.venv/bin/python -m tools.clients $(if $(CLIENT),"$(CLIENT)") $(ARGS)

frontends: ## Open WebUI, Gradio and a page of another origin in Chromium, on the real engine (8 GB; ARGS=--shots).
	$(SETUP) --dev
	@FRONTENDS_SHOTS=$(if $(findstring --shots,$(ARGS)),docs/frontends) .venv/bin/pytest --timeout 900 \
		tests/frontends/other_origin.py tests/frontends/open_webui.py \
		tests/frontends/open_webui_set_up.py tests/frontends/gradio_chat.py

fresh-machine: ## `make serve` and `make test` on new Debian machines, as root and as others (as root; ARGS="--suite bookworm --no-tests --write").
	$(SETUP) --dev
	@.venv/bin/python -m tools.fresh_machine $(ARGS)
