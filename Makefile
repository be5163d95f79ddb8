# `make verify` checks the theorems, `make test` checks the code. Both need Python 3.11 or later and nothing else: the first
# call sets up .venv, later ones find it there and need no network.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
INSTALLED_DOCS := .venv/.installed-docs
REPORT := out/report.html

# One BLAS thread per test worker: two workers with two threads each would only wait for one another.
ONE_THREAD := OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.NOTPARALLEL:
.PHONY: verify test lint types evidence bench docs clean

verify: $(INSTALLED)
	@mkdir -p out
	@$(BIN)/theorykit verify --profile quick --jobs 2 --html $(REPORT) --json out/verify.json; status=$$?; \
	case $$status in 0|1|3) echo "Report: $(CURDIR)/$(REPORT)";; esac; exit $$status

test: $(INSTALLED)
	@$(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(INSTALLED)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(INSTALLED)
	@$(BIN)/mypy

# Every count that the tests only sample; hours, the coverage of error estimates above all. The tables go to out/.
evidence: $(INSTALLED)
	@mkdir -p out
	@$(BIN)/python benchmarks/evidence.py

bench: $(INSTALLED)
	@mkdir -p out
	@$(BIN)/python benchmarks/flows.py --quick --out out/bench-flows.json
	@$(BIN)/python benchmarks/programs.py --quick --out out/bench-programs.json
	@$(BIN)/python benchmarks/ode.py --quick --out out/bench-ode

docs: $(INSTALLED_DOCS)
	@$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "Documentation: $(CURDIR)/docs/_build/html/index.html"

# All that can be made again, save .venv: that would need the network.
clean:
	rm -rf out build dist docs/_build docs/api *.egg-info
	rm -rf .pytest_cache .hypothesis .mypy_cache .ruff_cache .benchmarks
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

# A .venv without a working pip (python3-venv was missing, or the interpreter has gone) is made anew.
$(INSTALLED): pyproject.toml
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@echo "Installing theorykit and what it needs into .venv"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable ".[dev]"
	@touch $@

$(INSTALLED_DOCS): $(INSTALLED)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable ".[docs]"
	@touch $@
