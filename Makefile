# The commands of this repository; `make` alone lists them. Each works alone on a fresh machine (Debian with Rust, Go,
# Python 3.11, Node 20 and gcc; root or sudo for apt).
.PHONY: help run demo test check fmt gen bench clean c python wheel sdist node

help:
	@echo 'make run     build, start the clock daemon and the timer service, say where things are'
	@echo 'make demo    the whole thread on this machine: a lying NTP server, a timer, kill -9, the webhook on time'
	@echo 'make test    install what is needed and run every test'
	@echo 'make check   the fast check: format, lints, generated files, unit tests'
	@echo 'make c       the C library, target/release/libchronotick_ffi.a and .so'
	@echo 'make python  the Python package, installed in build/venv'
	@echo 'make wheel   the Python wheel with the daemon in it, in build/wheels'
	@echo 'make sdist   the Python sdist with every crate in it, in build/wheels'
	@echo 'make node    the npm package, built in bindings-node'
	@echo 'make gen     write the generated files'
	@echo 'make bench   every benchmark as a table'

run:
	cargo build --release
	./scripts/run.sh

demo:
	cargo build --release
	cargo run --release --quiet --package e2e --bin demo

test:
	python3 scripts/test.py

check:
	python3 scripts/test.py --check

c:
	cargo build --release --package chronotick-ffi

python:
	test -x build/venv/bin/python || python3 -m venv build/venv
	build/venv/bin/pip install --quiet -r bindings-python/requirements-dev.txt
	cd bindings-python && VIRTUAL_ENV=$(CURDIR)/build/venv ../build/venv/bin/maturin develop --release --quiet

wheel sdist:
	test -x build/venv/bin/python || python3 -m venv build/venv
	build/venv/bin/pip install --quiet -r bindings-python/requirements-dev.txt
	cd bindings-python && PATH=$(CURDIR)/build/venv/bin:$$PATH python build_backend/chronotick_build.py $@ ../build/wheels

node:
	cd bindings-node && npm ci --no-audit --no-fund && npm run --silent build

fmt:
	cargo fmt

gen:
	python3 tests/conformance/make_pages.py
	cargo xtask gen

bench:
	cargo xtask bench read
	cargo xtask bench kernel
	cargo xtask bench queue

clean:
	cargo clean
	rm -rf build bindings-node/node_modules bindings-node/dist
