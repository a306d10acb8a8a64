# `make demo` and `make test` are all the set-up there is: they need python3 (3.11 to 3.13), make and git.
# Everything lands in .venv/ (the packages of uv.lock) and, where this machine has no uv, in .uv/.

# The uv on the PATH, or the one that uv.lock pins, fetched into the project.
UV := $(or $(shell command -v uv 2>/dev/null),.uv/bin/uv)
RUN := $(UV) run --no-sync --quiet
READY := .venv/.ready
# The SAM CLI pins versions of its own, so it has an environment of its own. SAM=sam takes the one on the PATH.
SAM := $(UV) tool run --quiet --from aws-sam-cli==1.170.0 sam
# The emulator of `make e2e` pins versions of its own as well; so do the functions that it runs.
MINISTACK := ministack==1.5.33
# What is deployed, from uv.lock. Versions only: sam build fetches the arm64 wheels by name and version, so hashes here
# would promise a check that is not made.
REQUIREMENTS := { echo '\# Exported from uv.lock: make requirements'; \
    $(UV) export --frozen --quiet --only-group function --no-hashes --no-annotate --no-header; }

# The machine's own Python or a clear error, never a downloaded one.
export UV_PYTHON_DOWNLOADS := never
# Trust the certificates that the machine trusts, as pip does: behind a company's proxy uv's own list is not enough.
export UV_SYSTEM_CERTS := true

# The tests start the command some hundred times: without bytecode each start compiles all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test e2e build sweep sweep-rules sweep-consumer fuzz bench-memory bench-bounds bench-auto bench-pace bench-outage bench-flood bench-fair bench-flex bench-calls lint types layers template requirements requirements-check schema prices check clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY)  ## a simulated day of traffic in seconds, crashes included (ARGS="--seed 7")
	@$(RUN) lowtide demo $(ARGS)

# Twice as many as there are cores, because the tests of the command wait for its servers now and then.
WORKERS = $(shell expr $$(getconf _NPROCESSORS_ONLN) \* 2)

# The tests write tens of thousands of small files, and their workers wait for the disk more than for a core. Where
# /dev/shm has 4 GB free and lets the scripts of some tests run, their files are in memory.
IN_MEMORY = $(shell grep -q '^[^ ]* /dev/shm [^ ]* [^ ]*noexec' /proc/mounts 2>/dev/null || \
    df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 > 4000000 {print "TMPDIR=/dev/shm"}')

test: $(READY)  ## every test, on all cores (ARGS="tests/core -k seal")
	@$(RUN) env $(IN_MEMORY) pytest -n $(WORKERS) $(ARGS)

SWEPT = $(if $(N),-n $(N)) $(if $(SEED),--seed $(SEED)) $(if $(FROM),--from $(FROM))

sweep: $(READY)  ## crashes, failing ports and interleavings by the thousand (N=100000 SEED=7 FROM=400, or REPLAY=name WITHOUT=rule)
	@$(RUN) python -m tests.sweep $(SWEPT) $(if $(REPLAY),--replay $(REPLAY)) $(if $(WITHOUT),--without $(WITHOUT))

sweep-rules: $(READY)  ## what the sweep finds when one rule after the other is removed
	@$(RUN) python -m tests.sweep --rules

sweep-consumer: $(READY)  ## consumers killed and refused at each of their calls: what is lost, or paid twice (N=9000 SEED=7)
	@$(RUN) python -m tests.sweep --consumer $(SWEPT)

fuzz: $(READY)  ## garbled task lines, deliveries, output lines and routes files, 10,000 each (ARGS="--lines 500 --seed 7")
	@$(RUN) python -m tests.garbled $(ARGS)

bench-memory: $(READY)  ## peak memory of 50,000 tasks assembled and 400 MB collected (ARGS="--tasks 10000")
	@$(RUN) python -m bench.memory $(ARGS)

bench-bounds: $(READY)  ## CPU that a hostile megabyte costs each parser of what strangers send (ARGS="--limit-s 0.5")
	@$(RUN) python -m bench.bounds $(ARGS)

bench-auto: $(READY)  ## dollars with and without `auto` on a mixed workload (ARGS="--tasks 5000 --hard 0.4")
	@$(RUN) python -m bench.auto $(ARGS)

bench-pace: $(READY)  ## how well a provider's rate limit is used, by one and by eight consumers (ARGS="--per-minute 600")
	@$(RUN) python -m bench.pace $(ARGS)

bench-outage: $(READY)  ## ten minutes of outage at full load: what is lost, what dies, how long it takes to drain
	@$(RUN) python -m bench.outage $(ARGS)

bench-flood: $(READY)  ## how long CRITICAL takes alone and under a flood of NORMAL (ARGS="--flood 5000")
	@$(RUN) python -m bench.flood $(ARGS)

bench-fair: $(READY)  ## how long a small tenant waits beside a large one (ARGS="--big 50000")
	@$(RUN) python -m bench.fair $(ARGS)

bench-flex: $(READY)  ## a day of NORMAL with flex gone a third of the time: its share, deadlines, dollars (ARGS="--per-hour 100")
	@$(RUN) python -m bench.flex $(ARGS)

bench-calls: $(READY)  ## what a call costs the processor, beside OpenAI's SDK (ARGS="--calls 500")
	@$(UV) run --frozen --quiet --with 'openai[aiohttp]' python -m bench.calls $(ARGS)

e2e: $(READY) .e2e/ministack/.ready .e2e/packages/.ready  ## the template that is deployed, on an emulator of AWS and a wall clock: 300 tasks, kills, orders
	@$(RUN) python -m tests.e2e --ministack .e2e/ministack/bin/ministack --packages .e2e/packages --logs .e2e

build: export SAM_CLI_TELEMETRY := 0
build: $(filter .uv/bin/uv,$(UV))  ## what is deployed: sam build, for arm64 and Python 3.13, into .aws-sam/ (cached)
	@python=$$(.ci/python 3.13) && PATH="$$(dirname "$$python"):$$PATH" $(SAM) build
	@$(SAM) validate --lint

lint: $(READY)  ## style and formatting
	@$(RUN) ruff check
	@$(RUN) ruff format --check

types: $(READY)  ## mypy
	@$(RUN) mypy

layers: $(READY)  ## who may import whom
	@$(RUN) lint-imports

template: $(READY)  ## the CloudFormation templates
	@$(RUN) cfn-lint template.yaml $(wildcard infra/*.yaml)

requirements: $(READY)  ## writes what is deployed, from uv.lock, to functions/requirements.txt
	@$(REQUIREMENTS) > functions/requirements.txt

requirements-check: $(READY)
	@$(REQUIREMENTS) | diff - functions/requirements.txt \
	    || { echo "functions/requirements.txt is not what uv.lock says: run 'make requirements'"; exit 1; }

schema: $(READY)  ## writes the JSON Schema of the task message to docs/task.schema.json
	@$(RUN) lowtide schema > docs/task.schema.json

prices: $(READY)  ## rewrites the price table (LITELLM=model_prices_and_context_window.json LITELLM_VERSION=release)
	@$(UV) run --frozen --quiet --with genai-prices python -m lowtide_local.pricing \
	    --litellm "$(LITELLM)" --litellm-version "$(LITELLM_VERSION)"

check: lint types layers template requirements-check test sweep e2e  ## everything that CI runs, and e2e

clean:  ## removes what make and the tools made
	rm -rf .venv .uv .e2e out dist .aws-sam .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# Again only when the lock or the project's own settings changed.
$(READY): pyproject.toml uv.lock $(filter .uv/bin/uv,$(UV))
	@python=$$(.ci/python) && $(UV) sync --frozen --quiet --python "$$python"
	@touch $@

.e2e/ministack/.ready: $(READY) Makefile
	@$(UV) venv --quiet --clear --python .venv/bin/python .e2e/ministack
	@$(UV) pip install --quiet --python .e2e/ministack/bin/python '$(MINISTACK)'
	@touch $@

.e2e/packages/.ready: .e2e/ministack/.ready functions/requirements.txt
	@rm -rf .e2e/packages
	@$(UV) pip install --quiet --compile-bytecode --python .e2e/ministack/bin/python --target .e2e/packages \
	    --requirement functions/requirements.txt
	@touch $@

.uv/bin/uv: uv.lock
	@python=$$(.ci/python) && "$$python" .ci/fetch_uv.py
	@touch $@
