# Lunette's front door. `make run` and `make test` do all set-up themselves.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
SOURCES := $(wildcard core/*.pyx core/*.pxd core/*.h core/layout.py bench/_*.pyx) setup.py pyproject.toml

.PHONY: all build run test lint bench clean clients fuzz fuzz-login fuzz-keys fuzz-commands
all: build

$(VENV)/.deps: pyproject.toml constraints.txt
	@sh .ci/prerequisites $(PYTHON)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt setuptools cython
	$(BIN)/python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; print('\n'.join(p['dependencies'] + p['optional-dependencies']['dev']))" > $(VENV)/requirements.txt
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -r $(VENV)/requirements.txt
	touch $@

$(VENV)/.built: $(VENV)/.deps $(SOURCES)
	$(BIN)/python setup.py -q build_ext --inplace -j $$(nproc)
	LUNETTE_BUILT=1 $(BIN)/pip install -q --disable-pip-version-check --no-build-isolation --no-deps -e .
	touch $@

build: $(VENV)/.built

run: build
	exec $(BIN)/python -m target.demo

clients:
	@sh tests/support/clients.sh

test: build clients
	$(BIN)/python -m pytest -q

lint: build
	$(BIN)/ruff check .
	$(BIN)/mypy
	PATH=$(CURDIR)/$(BIN):$$PATH cython-lint core/*.pyx core/*.pxd

# About a minute each; FUZZ=60 makes it hours. With -j they run side by side.
FUZZ ?= 1
FUZZER := $(BIN)/python -m pytest -q -p no:cacheprovider --timeout=0
fuzz: fuzz-login fuzz-keys fuzz-commands

fuzz-login: build
	LUNETTE_FUZZ_SECONDS=$$((12 * $(FUZZ))) $(FUZZER) tests/fuzz/test_fuzz_login.py

fuzz-keys: build
	LUNETTE_FUZZ_SECONDS=$$((60 * $(FUZZ))) $(FUZZER) tests/fuzz/test_fuzz_login_keys.py

fuzz-commands: build
	LUNETTE_FUZZ_EXAMPLES=$$((4000 * $(FUZZ))) $(FUZZER) tests/fuzz/test_fuzz_cdb.py tests/fuzz/test_fuzz_cdb_reservations.py

bench: build
	$(BIN)/python -m bench

clean:
	rm -rf $(VENV) build *.egg-info core/*.c core/*.so bench/*.c bench/*.so core/_layout.h
