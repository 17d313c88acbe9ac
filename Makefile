# Lunette's front door. `make run` and `make test` do all set-up themselves.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
SOURCES := $(shell find core bench -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi' -o -name '*.h' ! -name _layout.h ! -name _stream.h) core/layout.py core/stream/layout.py setup.py
MODULES := $(shell find core target -name '*.py')

.PHONY: all help build dev run test test-one mirrors schema page deb deb-try lint bench clean clients ceph distro distros checked fuzz fuzz-login fuzz-keys fuzz-commands fuzz-sessions fuzz-lives
all: build

# Says what each target below is for: the words after its two hashes.
help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(VENV)/.deps: pyproject.toml constraints.txt
	@sh .ci/prerequisites $(PYTHON)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt setuptools cython
	$(BIN)/python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; print('\n'.join(p['dependencies'] + p['optional-dependencies']['dev']))" > $(VENV)/requirements.txt
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -r $(VENV)/requirements.txt
	touch $@

$(VENV)/.built: $(VENV)/.deps $(SOURCES)
	$(BIN)/python setup.py -q build_ext --inplace -j $$(nproc)
	touch $@

# What `pip` writes: the `lunette` command, and where the packages are.
$(VENV)/.installed: $(VENV)/.deps setup.py pyproject.toml
	LUNETTE_BUILT=1 $(BIN)/pip install -q --disable-pip-version-check --no-build-isolation --no-deps -e .
	touch $@

# Bytecode, for users that may not write here and for PYTHONDONTWRITEBYTECODE: compiling is a quarter of a daemon's start.
$(VENV)/.compiled: $(VENV)/.built $(MODULES)
	$(BIN)/python -m compileall -q --invalidation-mode checked-hash core target
	touch $@

build: $(VENV)/.compiled $(VENV)/.installed ## the core, the command `lunette`, all into .venv and beside the sources

run: build ## a demo pool in ./run, served on 127.0.0.1:3260
	exec $(BIN)/python -m target.demo

clients: ## what the tests need from the system (initiators, QEMU)
	@sh tests/support/clients.sh
	@$(PYTHON) -m tests.support.guest_image

# Two files of tests at a time: half of each test's life is a daemon or a guest that waits.
test: build clients ## all tests
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

ceph: build clients ## the tests of pools on a Ceph cluster of their own: some minutes
	@sh tests/support/clients.sh ceph
	LUNETTE_CEPH=$${LUNETTE_CEPH:-1} $(BIN)/python -m pytest -q -n 2 --dist loadfile tests/ceph

mirrors: build clients ## the tests of mirrors with a fault at each step of a round; LUNETTE_MIRROR=all: of each command, too
	LUNETTE_MIRROR=$${LUNETTE_MIRROR:-full} $(BIN)/python -m pytest -q -n 2 --dist loadfile --timeout=900 tests/interop/test_mirror_[fls]*.py tests/interop/test_kernel_mirror.py

# From a clean clone.
RELEASE ?= trixie
TESTS   ?=
distro: ## `make run` and `make test` in one fresh, minimal Debian: RELEASE, or TESTS only
	tests/support/distro.sh $(RELEASE) $(TESTS)

distros: ## the same in each Debian that is supported
	tests/support/distro.sh bookworm
	tests/support/distro.sh trixie

page: build ## the page, tried in a real browser (chromium, Playwright, axe-core are installed for it)
	@sh tests/page/install.sh $(BIN)
	LUNETTE_PAGE=1 $(BIN)/python -m pytest -q tests/page

schema: build ## the served schema, walked by schemathesis in all phases, with and without a token
	LUNETTE_SCHEMA=full $(BIN)/python -m pytest -q --timeout=900 tests/server/api/test_schema.py

deb: build ## a Debian package for this release, in dist
	@bash packaging/deb/build.sh dist

deb-try: build ## the package in a clean chroot: installed, serving, purged (root; some minutes)
	@bash packaging/deb/try.sh

lint: build ## ruff, mypy (strict), cython-lint
	$(BIN)/ruff check .
	$(BIN)/mypy
	PATH=$(CURDIR)/$(BIN):$$PATH cython-lint $$(find core -name '*.pyx' -o -name '*.pxd')

# A tree of its own beside the sources, for a core that is compiled otherwise: what is not compiled is linked.
define tree
	@for folder in $$(find core bench -type d ! -name __pycache__); do \
		mkdir -p $(1)/$$folder && ln -sf $(CURDIR)/$$folder/*.[hjp]* $(1)/$$folder/; done
	@ln -sfn $(addprefix $(CURDIR)/,target tests docs pyproject.toml README.md Makefile) $(1)/
endef

# The core for a contributor's loop: quick to compile, and never in the way of what `make build` made.
DEV := build/dev
$(DEV)/.built: $(VENV)/.deps $(SOURCES)
	LUNETTE_OPTIMIZE=1 $(BIN)/python setup.py -q build_ext --build-lib $(DEV) --build-temp build/dev-objects -j $$(nproc)
	touch $@

dev: $(DEV)/.built ## the core into build/dev, compiled in seconds
	$(call tree,$(DEV))

test-one: dev ## the tests T on build/dev: make test-one T="tests/core/test_engine.py -k sync"
	cd $(DEV) && $(CURDIR)/$(BIN)/python -m pytest -q $(T)

# The core once more, under ASan and UBSan.
CHECKED := build/checked
$(CHECKED)/.built: $(VENV)/.built
	LUNETTE_SANITIZE=address,undefined nice $(BIN)/python setup.py -q build_ext --build-lib $(CHECKED) --build-temp build/checked-objects -j $$(nproc)
	touch $@

checked: $(CHECKED)/.built ## the core into build/checked, with ASan and UBSan
	$(call tree,$(CHECKED))

# About a minute each, on the checked core, which ends the run at its first error; FUZZ=60 makes it hours of each.
# With -j they run side by side.
FUZZ ?= 1
FUZZER = cd $(CHECKED) && env LUNETTE_CHECKED=1 LD_PRELOAD=$$($(CC) -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0 \
	UBSAN_OPTIONS=print_stacktrace=1 PYTHONMALLOC=malloc \
	LUNETTE_FUZZ_SECONDS=$$(($(EACH) * $(FUZZ))) LUNETTE_FUZZ_EXAMPLES=$$(($(EACH) * $(FUZZ))) \
	LUNETTE_EXPLORE=$(filter-out 1,$(FUZZ)) \
	$(CURDIR)/$(BIN)/python -m pytest -q -p no:cacheprovider --timeout=0 --capture=sys
fuzz: fuzz-login fuzz-keys fuzz-commands fuzz-sessions fuzz-lives ## the fuzzers on build/checked; FUZZ=60 makes it hours

fuzz-login: EACH = 12
fuzz-login: checked
	$(FUZZER) tests/fuzz/test_fuzz_login.py

fuzz-keys: EACH = 60
fuzz-keys: checked
	$(FUZZER) tests/fuzz/test_fuzz_login_keys.py

fuzz-commands: EACH = 1500
fuzz-commands: checked
	$(FUZZER) tests/fuzz/test_fuzz_cdb.py tests/fuzz/test_fuzz_cdb_reservations.py

fuzz-sessions: EACH = 30
fuzz-sessions: checked
	$(FUZZER) tests/fuzz/test_fuzz_session.py tests/interop/test_hostile_session.py

fuzz-lives: EACH = 1
fuzz-lives: checked
	CRASH_SEEDS=$$((2 * $(FUZZ))) && export CRASH_SEEDS && $(FUZZER) tests/crash/test_seeds.py

bench: build ## the benchmarks (see docs/benchmarks.md)
	$(BIN)/python -m bench

clean: ## away with all that was built, fetched or generated
	rm -rf $(VENV) build *.egg-info core/_layout.h core/stream/_stream.h
	find core bench \( -name '*.c' -o -name '*.so' \) -delete
	find core target -name __pycache__ -prune -exec rm -r {} +
