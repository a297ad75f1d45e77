# Everything works on a fresh clone with nothing but Python 3.11+ and git: the targets make .venv themselves.
PYTHON ?= python3
# How many processes `make test` spreads the tests over, for pytest-xdist; `WORKERS=0` is none but its own.
WORKERS ?= auto
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CLIENTS := .venv-clients/litellm/.ready .venv-clients/lm-eval/.ready
PROTOS := $(wildcard proto/specfuse/v1/*.proto)
BUF := npm exec --yes --package=@bufbuild/buf@1.75.0 -- buf

.DEFAULT_GOAL := help
.PHONY: help install demo test test-clients test-servers test-cluster robustness lint format proto buf bench experts servers helm chart monitoring boards pictures images clean

help: ## List the targets.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(READY) ## Make .venv with everything needed to run, test and change SpecFuse.

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY) ## Start a mesh of the shipped experts, ask it questions, show who won each segment.
	$(BIN)/specfuse demo
	@echo "To ask it yourself in a browser, and see who writes what: $(BIN)/specfuse up --demo"

test: $(READY) ## Run all tests that this machine can run.
	$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 --dist worksteal

test-servers: $(READY) ## Run the tests against real inference servers that this machine has.
	$(BIN)/python -m pytest -m servers tests/servers

test-clients: $(READY) $(CLIENTS) ## Run what others wrote for OpenAI's API against a mesh.
	$(BIN)/python -m pytest -m clients tests/clients

# Each in an environment of its own: what they need contradicts what the others do.
.venv-clients/%/.ready: tests/clients/%.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

test-cluster: $(READY) ## Install the chart on a real control plane, where there is one, and break what it runs on.
	CLUSTER_REPORT=build $(BIN)/python -m pytest -m cluster tests/cluster

robustness: $(READY) ## Break a mesh in every way there is, and write what was measured to build/.
	ROBUSTNESS_REPORT=build $(BIN)/python -m pytest -m "robustness or not robustness" tests/robustness tests/monitoring

lint: $(READY) buf ## Format check, lint, types, and the rules of who may import whom.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint deploy/docker/Containerfile

buf: ## Lint the contract (needs npm).
	@if command -v npm >/dev/null; then $(BUF) lint; else echo "buf lint left out: it needs npm"; fi

format: $(READY) ## Format the code.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

proto: $(READY) ## Regenerate the stubs under specfuse/v1 from proto/.
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/python -m grpc_tools.protoc -I proto \
	  --python_out=. --mypy_out=quiet:. $(PROTOS)
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/python -m grpc_tools.protoc -I proto \
	  --grpc_python_out=. --mypy_grpc_out=quiet:. $(filter %_service.proto,$(PROTOS))

bench: $(READY) ## Run all benches that need no GPU (25 minutes on 2 cores), and write docs/results/bench.md.
	$(BIN)/python bench/suite.py --out docs/results/bench.md

experts: $(READY) ## Train the shipped experts again, from nothing.
	$(BIN)/python -m specfuse.demo.train

servers: ## Fetch the real llama-server that some tests talk to, to .servers (needs Debian).
	tests/servers/install_llama_server.sh .servers/llama

helm: $(READY) ## Fetch a real helm and kubectl to .tools (for Linux on x86-64).
	deploy/helm/install_helm.sh .tools/bin $(BIN)/python

chart: $(READY) ## Write what follows from the chart's values.yaml: schema, README, golden output.
	$(BIN)/python -m deploy.helm.generate

monitoring: $(READY) ## Write what is made to watch a mesh: the reference of metrics, alerts, dashboards.
	$(BIN)/python -m deploy.monitoring

boards: $(READY) ## Draw the dashboards from a short game day (needs prometheus).
	PYTHONPATH=. $(BIN)/python docs/pictures/boards.py

pictures: $(READY) ## Take the pictures of the page again (needs chromium).
	PYTHONPATH=. $(BIN)/python docs/pictures/take.py

images: ## Build the container images with buildah or docker (docs/images.md).
	deploy/docker/build.sh

clean: ## Remove .venv and caches.
	rm -rf $(VENV) .venv-clients .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
