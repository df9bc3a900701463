# make demo        Set up, run the simulated robot under a pruned policy, write a report to out/.
# make test        Set up, lint and test.
# make quick       Run the tests of pruning, models and control, in under a minute.
# make setup-extra Add what the tests of export, Dockerfiles and the documents' site need.
# make test-jazzy  Set up ROS 2 Jazzy next to it, and run there everything that touches ROS.
SHELL := /bin/bash
.PHONY: demo quick test test-jazzy lint format setup setup-extra setup-jazzy clean

demo: setup
	@. ./env.sh && python3 -m vla_pruner_lab.demo --out out --overwrite

# pruning/, models/ and control/ without ROS, recordings and real time: under a minute.
quick: setup
	@. ./env.sh && OMP_NUM_THREADS=1 pytest -x -q -n 2 --dist loadfile --no-loadscope-reorder \
	  -m "not realtime and not slow" test/pruning test/settings test/control test/models

# Three processes on two cores: the tests in real time wait more than they compute.
# A replaced process makes pytest-xdist 3.8 wait for ever (its issues 1323, 1327, 1378).
PARALLEL := -n 3 --dist loadfile --no-loadscope-reorder --max-worker-restart=0

test: lint
	@. ./env.sh && pytest $(PARALLEL)

# What touches ROS: nodes, bags across distributions, parity of live and replay, simulated robot, demo
# and a short soak. Bags are read, and policies run, without rclpy: `make test` covers the rest.
JAZZY_TESTS := test/nodes test/doctor test/dashboard test/replay/test_families.py \
  test/replay/test_across_distributions.py test/sim/test_realtime.py test/lab/test_demo_system.py \
  test/lab/test_soak.py test/repository/test_distributions.py \
  test/repository/test_launch_bringup.py test/repository/test_security.py

test-jazzy: setup-jazzy
	@export ROS_WHEELS=jazzy; . ./env.sh && pytest $(PARALLEL) $(JAZZY_TESTS)

lint: setup
	@. ./env.sh && ruff check . && ruff format --check .

format: setup
	@. ./env.sh && ruff check --fix . && ruff format .

# The pip that comes with Python 3.10 tries versions for over ten minutes; this one takes two.
PIP := pip==26.3

setup: .venv/installed install/built

.venv/installed: requirements.txt requirements-peers.txt scripts/install_system_packages.sh
	@python=$$(scripts/find_python.sh) && scripts/install_system_packages.sh "$$python" \
	  && ([ -x .venv/bin/python ] || "$$python" -m venv .venv)
	@echo "Installing Python packages into .venv (once, several minutes on a slow network)"
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --upgrade "$(PIP)"
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-peers.txt
	@touch $@

# Without these, some tests are skipped; continuous integration runs them.
setup-extra: setup .venv/installed-extra

.venv/installed-extra: .venv/installed requirements-extra.txt requirements-docs.txt
	@echo "Installing what some tests need besides (once)"
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-extra.txt
	@touch $@

# Python modules are linked, not copied: only what CMake reads makes a rebuild necessary.
BUILD_INPUTS := CMakeLists.txt package.xml setup.cfg scripts/build_workspace.sh \
  $(wildcard cmake/* msg/*.msg) $(shell find vla_pruner_ros launch config policies security -type d \
  -not -name __pycache__ 2>/dev/null)
install/built: .venv/installed $(BUILD_INPUTS)
	@scripts/build_workspace.sh
	@touch $@

# The same, with the wheels of ROS 2 Jazzy instead of Kilted's.
setup-jazzy: .venv-jazzy/installed install-jazzy/built

.venv-jazzy/installed: requirements.txt requirements-jazzy.txt scripts/install_system_packages.sh
	@python=$$(scripts/find_python.sh) && scripts/install_system_packages.sh "$$python" \
	  && ([ -x .venv-jazzy/bin/python ] || "$$python" -m venv .venv-jazzy)
	@echo "Installing Python packages into .venv-jazzy (once)"
	@.venv-jazzy/bin/python -m pip install --quiet --disable-pip-version-check --upgrade "$(PIP)"
	@grep -v '^ros-' requirements.txt | .venv-jazzy/bin/python -m pip install --quiet \
	  --disable-pip-version-check -r /dev/stdin -r requirements-jazzy.txt
	@touch $@

install-jazzy/built: .venv-jazzy/installed $(BUILD_INPUTS)
	@ROS_WHEELS=jazzy scripts/build_workspace.sh
	@touch $@

clean:
	rm -rf .venv build install log out .venv-jazzy build-jazzy install-jazzy
