# Two targets are all a newcomer needs: `make simulate` and `make test`. Each installs what it lacks.
# `make help` lists the rest.

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
WHEELHOUSE := build/wheelhouse
WHEELS_FOR ?= # another machine: --python-version 3.12 --platform manylinux_2_28_aarch64
DOWNLOAD := $(BIN)/python -m pip download --quiet --only-binary=:all: --constraint constraints.txt $(WHEELS_FOR)
PROTO_DIR := protos/wardround/wire/v1
PACKAGES := server:server site_client:site_client shared:shared deploy:deploy wire:protos/wardround/wire

# Docker's own Compose (2) or the separate program (1.29): whichever is there, unless it is named.
DOCKER_COMPOSE ?= $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)
COMPOSE = $(DOCKER_COMPOSE) --file deploy/compose/docker-compose.yml
STUDY ?= deploy/studies/demo.toml

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help install simulate test check unit format protos typing wheel-test clean \
	wheelhouse images compose-up compose-down compose-test

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## make .venv with every dependency at its pinned version (quick when nothing changed)

# Without build isolation: the setuptools that builds is then the pinned one too.
$(INSTALLED): pyproject.toml setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Wardround needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1)." >&2; \
		echo "Name another one: make install PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
		echo "'$(PYTHON) -m venv' failed; on Debian and Ubuntu install the package python3-venv." >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --constraint constraints.txt setuptools
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[site,flower-simulation,dev]'
	@touch $@

simulate: install ## six made-up sites through one study into out/simulate, anew (ARGS=--resume goes on with one)
	$(BIN)/wardround simulate --out out/simulate $(if $(findstring --resume,$(ARGS)),,--fresh) $(ARGS)

test: check ## everything a change must pass: checks, unit, contract and integration tests
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(ARGS)

unit: install ## the quick tests alone
	$(BIN)/python -m pytest tests/unit tests/contract -m 'not slow' $(ARGS)

check: install typing ## format, lint, types, import walls, wire contract
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory check-protos

# Type checkers do not run the import hook of an editable install, so they get links.
typing:
	@mkdir -p build/typing/wardround
	@for pair in $(PACKAGES); do \
		ln -sfn "$(CURDIR)/$${pair#*:}" "build/typing/wardround/$${pair%%:*}"; done

format: install ## format the code and mend what ruff can mend by itself
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

protos: install ## generate the Python code of the wire contract anew
	protos/generate.sh

.PHONY: check-protos
.SILENT: check-protos
check-protos: install
	rm -rf build/protos && mkdir -p build/protos
	protos/generate.sh build/protos
	for made in build/protos/wardround/wire/v1/*; do \
		cmp -s "$$made" "$(PROTO_DIR)/$${made##*/}" || { \
			echo "$(PROTO_DIR)/$${made##*/} is not what its .proto generates: run 'make protos'." >&2; exit 1; }; \
	done
	$(BIN)/buf lint protos
	if git cat-file -e main:$(PROTO_DIR) 2>/dev/null; then \
		$(BIN)/buf breaking protos --against '.git#branch=main,subdir=protos'; \
	else \
		echo "no branch 'main' to compare the wire contract with: skipped"; \
	fi
	echo "wire contract: generated code is current, buf finds no fault"

wheel-test: install ## build the wheel, look into it, install it alone into a clean environment
	rm -rf build/wheel build/lib build/bdist.* build/wheel-venv
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir build/wheel .
	$(BIN)/python -c 'import pathlib, zipfile; \
		(wheel,) = pathlib.Path("build/wheel").glob("*.whl"); \
		tops = {n.split("/")[0] for n in zipfile.ZipFile(wheel).namelist()}; \
		tops = {t for t in tops if not t.endswith(".dist-info")}; \
		assert tops == {"wardround"}, f"top-level names {tops}, expected only wardround"'
	$(PYTHON) -m venv build/wheel-venv
	build/wheel-venv/bin/python -m pip install --quiet --constraint constraints.txt build/wheel/*.whl
	cd build/wheel-venv && bin/python -c 'import wardround.server, wardround.shared.plan, wardround.shared.codec' \
		&& bin/wardround --help >/dev/null
	@echo "wheel: only 'wardround' inside, imports and runs without torch"

# What the container images are built from: coordinator/ holds the wheels of the base dependencies,
# site/ what a site needs besides, and Wardround's own lies beside them. pip's own configuration says
# where they come from.
wheelhouse: $(WHEELHOUSE)/.complete ## all wheels of the container images, which are then built without a network

$(WHEELHOUSE)/.complete: pyproject.toml constraints.txt | wheel
	rm -rf $(WHEELHOUSE)/coordinator $(WHEELHOUSE)/site
	$(DOWNLOAD) --dest $(WHEELHOUSE)/coordinator $(WHEELHOUSE)/wardround-*.whl
	$(DOWNLOAD) --dest $(WHEELHOUSE)/site "$$(echo $(WHEELHOUSE)/wardround-*.whl)[site]"
	cd $(WHEELHOUSE) && rm */wardround-*.whl && for wheel in coordinator/*; do rm "site/$${wheel#*/}"; done
	@touch $@

.PHONY: wheel
wheel: install
	rm -rf build/lib build/bdist.* $(WHEELHOUSE)/wardround-*.whl
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir $(WHEELHOUSE) .

images: wheelhouse ## container images of the coordinator and of a site
	$(DOCKER_COMPOSE) --file deploy/compose/images.yml build

compose-up: images ## six hospitals in containers on this machine, from nothing to the report in out/compose
	if [ ! -e out/compose/register/register.jsonl ]; then \
		mkdir -p out/compose && cp $(STUDY) out/compose/study.toml; \
		$(BIN)/wardround data make --out out/compose/data --cases 16; \
		deploy/compose/prepare.sh; \
	fi
	$(COMPOSE) up -d
	$(COMPOSE) logs --follow coordinator
	test "$$(docker wait $$($(COMPOSE) ps --all --quiet coordinator))" = 0
	rm -rf out/compose/study
	docker cp "$$($(COMPOSE) ps --all --quiet coordinator):/study" out/compose/study
	$(BIN)/wardround report out/compose/study

compose-down: ## end the six hospitals and remove all that they wrote
	$(COMPOSE) down --volumes
	rm -rf out/compose

compose-test: images ## six hospitals in containers: killed, cut off, and the bytes of a simulation
	$(BIN)/python -m pytest tests/e2e $(ARGS)

clean: ## remove what was built; .venv and out/ stay
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
