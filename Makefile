# make demo   set up, then run the simulated robot under a pruned policy and leave a report in out/
# make test   set up, then lint and test
SHELL := /bin/bash
.PHONY: demo test lint format setup clean

demo: setup
	@. ./env.sh && python3 -m vla_pruner_lab.demo --out out

test: lint
	@. ./env.sh && pytest

lint: setup
	@. ./env.sh && ruff check . && ruff format --check .

format: setup
	@. ./env.sh && ruff check --fix . && ruff format .

# The pip that comes with Python 3.10 tries versions for over ten minutes; this one takes two.
PIP := pip==26.3

setup: .venv/installed install/built

.venv/installed: requirements.txt scripts/install_system_packages.sh
	@python=$$(scripts/find_python.sh) && scripts/install_system_packages.sh "$$python" \
	  && "$$python" -m venv .venv
	@echo "Installing Python packages into .venv (once, several minutes on a slow network)"
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --upgrade "$(PIP)"
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

# Python modules are linked, not copied: only what CMake reads makes a rebuild necessary.
BUILD_INPUTS := CMakeLists.txt package.xml setup.cfg scripts/build_workspace.sh \
  $(wildcard cmake/* msg/*.msg) $(shell find vla_pruner_ros launch config policies security -type d \
  -not -name __pycache__ 2>/dev/null)
install/built: .venv/installed $(BUILD_INPUTS)
	@scripts/build_workspace.sh
	@touch $@

clean:
	rm -rf .venv build install log out
