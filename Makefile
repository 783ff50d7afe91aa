# Two commands to start with: `make demo` and `make test`. They make the virtual environment .venv by themselves.
# PYTHON picks the interpreter (3.11 or newer), JOBS the number of test processes.

PYTHON ?= python3
JOBS ?= 2

VENV := .venv
PY := $(VENV)/bin/python
QLM := $(VENV)/bin/qlm
LOWEST := .venv-lowest
EDITABLE_PLUGINS := -e plugins/quasistatic -e plugins/rewind -e plugins/mesoscopic
REQUIREMENTS := pyproject.toml plugins/quasistatic/pyproject.toml plugins/rewind/pyproject.toml plugins/mesoscopic/pyproject.toml $(wildcard constraints/*.txt)

# Realisations and test processes run side by side: a thread pool in each of them would only get in the way.
export OMP_NUM_THREADS ?= 1
export NUMBA_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

.DEFAULT_GOAL := help
.PHONY: help venv demo test physics faults mutants gpu lowest docs lint types dist clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s  %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(VENV)/.qlm-run ## make .venv and install qlm_hoomd with its plugins

demo: $(VENV)/.qlm-run ## run protocols/quickstart.yaml (a few minutes) and write its report
	@$(QLM) run protocols/quickstart.yaml --out demo
	@echo "The report: $(CURDIR)/demo/results/report.html"

test: $(VENV)/.qlm-test ## run the tests
	@$(PY) -m pytest -n $(JOBS)

physics: $(VENV)/.qlm-test ## run the slow suite of known physical answers
	@$(PY) -m pytest -n $(JOBS) -m physics

faults: $(VENV)/.qlm-test ## kill, fill, damage and fuzz: nothing may be lost (some 15 minutes)
	@$(PY) tests/faults campaign --kills 200
	@$(PY) tests/faults liquid --stops 10
	@$(PY) tests/faults fuzz --inputs 20000
	@$(PY) -m pytest -q -m faults tests/test_postanalysis.py

mutants: $(VENV)/.qlm-test ## change numbers and operators at random: does a test notice? (an hour)
	@$(PY) tests/faults mutants --number 150

gpu: $(VENV)/.qlm-test ## on a machine with a GPU: HOOMD-blue's tests and answers there, rows of benchmarks/RESULTS.md
	@$(PY) benchmarks/gpu.py

lowest: $(LOWEST)/.qlm-lowest ## run the tests and the smallest whole run with the lowest versions that pyproject.toml allows (Python 3.11)
	@$(LOWEST)/bin/python -m pytest -n $(JOBS)
	@out=$$(mktemp -d) && $(LOWEST)/bin/qlm run .ci/smoke.yaml --out $$out; code=$$?; rm -rf "$$out"; exit $$code

docs: $(VENV)/.qlm-docs ## build the documentation, tutorials run, warnings as errors: docs/_build/html/index.html
	@MPLBACKEND=agg $(PY) -m sphinx -q -W --keep-going -b html -d docs/_build/doctrees docs docs/_build/html
	@echo "The documentation: $(CURDIR)/docs/_build/html/index.html"

lint: $(VENV)/.qlm-dev ## check style and formatting
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

types: $(VENV)/.qlm-dev ## check types, ours and those that a user's script sees
	@$(PY) -m mypy
	@$(PY) -m mypy --config-file tests/typing/mypy.ini tests/typing/user.py

dist: $(VENV)/.qlm-dev ## build wheels and source archives of qlm_hoomd and its plugins: dist/
	@rm -rf dist
	@for folder in . plugins/quasistatic plugins/rewind plugins/mesoscopic; do $(PY) -m build --outdir dist $$folder >/dev/null || exit 1; done
	@$(PY) -m build --sdist --outdir dist plugins/hoomd_ipl >/dev/null
	@ls dist

clean: ## remove the demo's results and all caches; .venv stays
	rm -rf demo build dist docs/_build docs/generated .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find qlm_hoomd plugins tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

# The environment sees the interpreter's own packages where HOOMD-blue is among them, and is isolated elsewhere: pip would quarrel with packages that have
# nothing to do with this. Where HOOMD-blue came or went since, the environment follows, keeps what is installed in it, and pip looks again.
$(VENV)/pyvenv.cfg: FORCE
	@if [ -x $(PY) ]; then \
	  python=$$($(PY) -c 'import sys; print(sys._base_executable)') || exit 1; \
	else \
	  python=$(PYTHON); \
	  $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "$$python is missing or older than 3.11 ($$($$python --version 2>&1)); qlm_hoomd needs Python 3.11 or newer." >&2; \
	    echo "Install one (Debian, Ubuntu: apt install python3 python3-venv) or name it: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; \
	    exit 1; }; \
	  $$python -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "$$python has no venv module, which makes virtual environments." >&2; \
	    echo "Install it (Debian, Ubuntu: apt install python3-venv) and run make again." >&2; \
	    exit 1; }; \
	fi; \
	if $$python -c 'import hoomd' 2>/dev/null; then sees=true; flag=--system-site-packages; kind="HOOMD-blue of $$python in sight"; \
	else sees=false; flag=; kind="isolated, for $$python has no HOOMD-blue"; fi; \
	if ! [ -x $(PY) ]; then \
	  echo "Making $(VENV) with $$($$python --version): $$kind"; \
	  $$python -m venv $$flag $(VENV); \
	elif ! grep -q "^include-system-site-packages = $$sees" $@; then \
	  echo "Changing $(VENV): $$kind"; \
	  $$python -m venv --without-pip $$flag $(VENV); \
	fi

FORCE:

# One pip command per level, with the versions that were tested for this Python where there are any.
define install
	@set --; list=constraints/py$$($(PY) -c 'import sys; print("%d%d" % sys.version_info[:2])').txt; \
	if [ -f "$$list" ]; then set -- -c "$$list"; fi; \
	echo "Installing qlm_hoomd$(1) and its plugins (a minute or so the first time)"; \
	$(PY) -m pip install --quiet "$$@" -e ".$(1)" $(EDITABLE_PLUGINS); \
	if $(PY) -c 'import hoomd' 2>/dev/null; then \
	  echo "HOOMD-blue is here: compiling its pair force"; \
	  $(PY) -m pip install --quiet ./plugins/hoomd_ipl || echo "not compiled; HOOMD-blue then uses the exact sum of its own Mie potentials"; \
	fi
endef

$(VENV)/.qlm-run: $(REQUIREMENTS) $(VENV)/pyvenv.cfg
	$(call install,)
	@touch $@

$(VENV)/.qlm-test: $(REQUIREMENTS) $(VENV)/pyvenv.cfg
	$(call install,[test])
	@touch $@ $(VENV)/.qlm-run

comma := ,
$(VENV)/.qlm-dev: $(REQUIREMENTS) $(VENV)/pyvenv.cfg
	$(call install,[test$(comma)dev])
	@touch $@ $(VENV)/.qlm-test $(VENV)/.qlm-run

# Wheels of the lowest versions exist for the lowest Python. Nothing of the interpreter's own packages may help.
$(LOWEST)/.qlm-lowest: $(REQUIREMENTS)
	@python=$$(command -v python3.11 || command -v $(PYTHON)); \
	$$python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || { \
	  echo "make lowest needs Python 3.11, the lowest that pyproject.toml allows; found neither python3.11 nor 3.11 as $(PYTHON)." >&2; \
	  echo "Name it: make PYTHON=/path/to/python3.11 lowest" >&2; \
	  exit 1; }; \
	echo "Making $(LOWEST) with the versions of constraints/lowest.txt"; \
	$$python -m venv --clear $(LOWEST)
	@$(LOWEST)/bin/python -m pip install --quiet -c constraints/lowest.txt -e ".[test]" $(EDITABLE_PLUGINS)
	@touch $@

$(VENV)/.qlm-docs: $(REQUIREMENTS) $(VENV)/pyvenv.cfg
	$(call install,[docs])
	@touch $@ $(VENV)/.qlm-run
