# Everything a fresh machine needs: Python 3.11, make and git are enough to begin.
# `make` alone lists the targets.

PYTHON ?= python3.11
VENV := .venv
RUN := PATH="$(CURDIR)/$(VENV)/bin:$$PATH" PYTHONUNBUFFERED=1
UV := .uv/bin/uv
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url

.DEFAULT_GOAL := help
.PHONY: help env demo test check lock

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

# uv lives in an environment of its own, because syncing .venv to the lock removes what the lock lacks.
$(UV): infra/locks/uv.txt
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) not found; install Python 3.11 or name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv .uv
	.uv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

$(VENV)/synced: infra/locks/pipeline.txt $(UV)
	$(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)
	$(UV) pip sync --quiet --require-hashes --python $(VENV) $<
	@touch $@

# What a deployed model runs in: no torch, no pandas. The tests answer with a model inside it.
$(VENV)-serving/synced: infra/locks/serving.txt $(UV)
	$(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)-serving
	$(UV) pip sync --quiet --require-hashes --python $(VENV)-serving $<
	@touch $@

env: $(VENV)/synced $(VENV)-serving/synced ## build the environments from the hash-pinned locks

lock: $(UV) ## resolve the locks anew after a change of pyproject.toml
	$(COMPILE) pyproject.toml --extra pipeline --extra dev -o infra/locks/pipeline.txt
	$(COMPILE) pyproject.toml --extra serving -o infra/locks/serving.txt
	echo uv | $(COMPILE) - -o infra/locks/uv.txt
