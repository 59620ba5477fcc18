# The two that you need: "make run" and "make test". Each sets up what is missing and is quick when nothing is.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ADDRESS ?= 127.0.0.1:10401
FUZZ_SECONDS ?= 30
BUILD_INPUTS := pyproject.toml setup.py constraints.txt kvm_exporter/cpuid.c kvm_exporter/cpuid_api.h kvm_exporter/_cpuid_build.py

export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: run demo test lint format install bench bench-fleet bench-rollout soak dashboards fuzz mutants deb dist clean

run: $(VENV)/.installed
	@exec $(BIN)/kvm-exporter --web.listen-address=$(ADDRESS)

# A fleet to try the alerts on, with servers of its own on the loopback.
demo: $(VENV)/.installed build/tools/.unpacked
	@exec $(BIN)/python -m demo

install: $(VENV)/.installed

test: $(VENV)/.installed-dev build/tools/.unpacked build/guests/.unpacked build/grafana/.installed build/trees/.made build/peers/.unpacked
	@scripts/system-packages $(PYTHON) test
	@scripts/system-packages $(PYTHON) deb
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(PYTEST_FLAGS)
	$(BIN)/coverage combine -q
	$(BIN)/coverage report $(if $(PYTEST_FLAGS),--fail-under=0)

# What parses bytes from outside, each target for so many seconds; FUZZ_SECONDS=0 makes the corpus anew with what was found.
fuzz: $(VENV)/.installed-fuzz
	$(BIN)/python -m tests.fuzz build/fuzz $(FUZZ_SECONDS) $(FUZZ_TARGETS)

# Changes that no test notices, in the modules that decode and compare: half an hour for all of them.
mutants: $(VENV)/.installed-mutants
	$(BIN)/python scripts/mutants.py $(MUTANTS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/biome ci --indent-style=space --line-width=120 kvm_exporter/report/page.css
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/biome check --write --indent-style=space --line-width=120 kvm_exporter/report/page.css

# Side by side with what users would otherwise run; docs/benchmarks.md has a run of it. Needs a machine that is quiet.
bench: $(VENV)/.installed-dev build/peers/.unpacked
	@scripts/system-packages $(PYTHON) test
	$(BIN)/python -m benchmarks $(BENCH_FLAGS)

# Under load for a long time, with everything changing: SOAK_FLAGS="--duration=2m".
soak: $(VENV)/.installed-dev
	@scripts/system-packages $(PYTHON) test
	$(BIN)/python -m benchmarks.soak $(SOAK_FLAGS)

# What fleets of a thousand and of ten thousand machines cost a real Prometheus with our rules, and our dashboard.
bench-fleet: $(VENV)/.installed build/tools/.unpacked
	$(BIN)/python -m benchmarks.fleet.scale

# How many messages the roll-out of a new host kernel over ten thousand guests sends; takes ten minutes.
bench-rollout: $(VENV)/.installed build/tools/.unpacked
	$(BIN)/python -m benchmarks.fleet.rollout

# The rules, alerts, dashboards and provisioning of dashboards/, from the one place that has cohort, thresholds and selectors.
dashboards: $(VENV)/.installed-dev
	$(BIN)/python dashboards/generate.py

# An sdist, and the wheel that is built from it: "python -m build -w" would not notice a file that the sdist lacks.
dist: $(VENV)/.installed-dev
	$(BIN)/python -m build --outdir dist

# The Debian package and its source package, built with Debian's own Python and libraries.
deb:
	@scripts/system-packages $(PYTHON) deb
	scripts/build-deb build/deb

clean:
	rm -rf $(VENV) build dist kvm_exporter/*.so kvm_exporter/_cpuid.c kvm_exporter/_revision.py *.egg-info

$(VENV)/.installed: $(BUILD_INPUTS)
	@scripts/system-packages $(PYTHON) build
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@scripts/system-packages $(PYTHON) test
	@$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@

$(VENV)/.installed-%: $(VENV)/.installed-dev
	@$(BIN)/pip install --quiet --editable '.[$*]'
	@touch $@

build/guests/.unpacked: scripts/guest-tools
	@scripts/guest-tools build/guests
	@touch $@

build/grafana/.installed: scripts/grafana-packages tests/node/package-lock.json
	@scripts/grafana-packages build/grafana
	@touch $@

build/peers/.unpacked: scripts/benchmark-peers
	@scripts/benchmark-peers build/peers
	@touch $@

build/tools/.unpacked: scripts/monitoring-tools
	@scripts/monitoring-tools build/tools
	@touch $@

build/trees/.made: scripts/system-trees
	@scripts/system-packages $(PYTHON) test
	@scripts/system-trees build/trees
