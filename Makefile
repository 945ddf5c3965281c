# Everything from a bare checkout: needs git, make and Python 3.11 or newer, installs the rest into .uv and .venv.
#   make run SOURCE=replay:DIR PORT=18080 DATA=/some/folder
#   make test

UV_VERSION := 0.13.8
UV := .uv/bin/uv
BIN := .venv/bin

SOURCE ?=
EXCHANGES ?=
PORT ?=
TLS_PORT ?=
DATA ?=
SEED ?=
SEEDS ?=

.PHONY: run test debian check test-fast explore test-cluster chaos kills dst bench docs format install web clean
.DEFAULT_GOAL := run

run: install
	@$(BIN)/rayfeed up $(if $(SOURCE),--source $(SOURCE)) $(if $(EXCHANGES),--exchanges $(EXCHANGES)) $(if $(PORT),--port $(PORT)) $(if $(TLS_PORT),--tls-port $(TLS_PORT)) $(if $(DATA),--data $(DATA))

test: check debian test-fast test-cluster

# What the tests need besides Python, where we may install it: a browser, an HTTP/2 client, an old but real ClickHouse,
# what hosts made of namespaces are reached with and have disks and clocks of their own by, and who reads metrics.
debian:
	@missing=""; for name in chromium curl clickhouse-server rsync prometheus; do command -v $$name >/dev/null || missing="$$missing $$name"; done; \
	command -v ip >/dev/null || missing="$$missing iproute2"; test -x /usr/sbin/sshd || missing="$$missing openssh-server openssh-client"; \
	command -v gcc >/dev/null || missing="$$missing gcc libc6-dev"; command -v mke2fs >/dev/null || missing="$$missing e2fsprogs"; \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	elif [ -n "$$missing" ]; then echo "Some tests need Debian packages that are missing:$$missing"; fi

# The static part.
check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

# Without Ray: pure cores, storage, servers on loopback.
test-fast: install
	$(BIN)/pytest --ignore=tests/cluster --ignore=tests/hosts -n 3 --dist loadfile

# Properties, held against examples that are others each time.
explore: install
	HYPOTHESIS_EXPLORE=1 $(BIN)/pytest --ignore=tests/cluster --ignore=tests/hosts -m hypothesis -n 3 --dist loadfile

# The whole system, started as a user would, on this machine and on several hosts.
test-cluster: install
	$(BIN)/pytest tests/cluster tests/hosts --durations=20 --timeout=600

# Faults of all kinds at seven simulated exchanges under load, processes killed and sinks stopped meanwhile, and then
# every trade is accounted for; then an hour of the same on several hosts, which are cut off and switched off too (needs
# root): make chaos SEED=1
chaos: install
	$(BIN)/python -m tests.chaos.campaign --on ray --faults 200 --seconds 1200 --rate 40 --out chaos $(if $(SEED),--seed $(SEED))
	$(BIN)/python -m tests.hosts.faults --seconds 3600 --shards 3 --out chaos $(if $(SEED),--seed $(SEED))

# Nothing but kills of shards, database, Redis and the whole tree, and then files, ClickHouse and what was made are
# compared: make kills SEED=1
kills: install
	$(BIN)/python -m tests.chaos.campaign --on ray --kills --faults 220 --seconds 1500 --rate 40 --out chaos $(if $(SEED),--seed $(SEED))

# The pure cores, one process, a made-up clock, network and disk, and a seed that chooses what goes wrong:
# make dst, make dst SEEDS=200, make dst SEED=123 (tells the history of that one). See docs/simulation.md.
dst: install
	$(BIN)/python -m tests.dst $(if $(SEEDS),--seeds $(SEEDS)) $(if $(SEED),--seed $(SEED))

bench: install
	$(BIN)/python -m benchmarks

# docs/ as pages in site/; a link that leads nowhere fails.
docs: install
	$(BIN)/mkdocs build --strict
	@echo "open site/index.html"

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: .venv/.compiled web

.venv/.installed: $(UV) pyproject.toml uv.lock
	$(UV) sync --frozen --quiet --compile-bytecode
	@touch $@

# numba's kernels: compiled once here, not by each of the processes that need them at the same time.
.venv/.compiled: .venv/.installed $(wildcard actors/aggregation/*.py actors/feeds/layouts/*.py)
	$(BIN)/python -m actors.kernels
	@touch $@

$(UV):
	python3 -m venv .uv
	.uv/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

web: serve_apps/web/dist/index.html

WEB_SOURCES := $(shell find serve_apps/web -path '*/node_modules' -prune -o -path '*/dist' -prune -o -type f -print 2>/dev/null)

serve_apps/web/dist/index.html: .venv/.installed $(WEB_SOURCES) serve_apps/bands.json
	cd serve_apps/web && ../../$(BIN)/npm ci --silent --no-audit --no-fund && ../../$(BIN)/npm run --silent build

clean:
	rm -rf .venv .uv serve_apps/web/node_modules serve_apps/web/dist .mypy_cache .ruff_cache .hypothesis
