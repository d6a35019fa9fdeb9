# `make` says what there is. Everything needs Rust (rust-version in Cargo.toml) and nothing else, unless its line says so.

CARGO ?= cargo
# Tests wait more than they work.
export RUST_TEST_THREADS ?= 8
IMAGE ?= oncegate
REVISION = --build-arg REVISION=$(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)
STORES ?= redis redis-tls sentinel cluster valkey

.PHONY: help
help:
	@echo 'make test    run all tests (curl, nginx, Node, Redis, h11 from PyPI; installed if root may)'
	@echo 'make test-stores   those of them that know nothing of stores, on each of STORES ($(STORES))'
	@echo 'make soak    2,000 slow-loris clients and 500 slow readers for a minute, beside some that must be served'
	@echo 'make chaos   replicas that die, pause and lose Redis, for ten minutes (ONCEGATE_CHAOS_SECONDS, ONCEGATE_CHAOS_SEED)'
	@echo 'make fuzz    each fuzz target for SECONDS_EACH seconds, 10 by default (cargo-fuzz)'
	@echo 'make check   formatting, lints, documentation; licences and bans where cargo-deny is installed'
	@echo 'make bench   CPU time per request beside nginx (wrk, nginx and Redis; installed if root may, Linux only)'
	@echo 'make image   the container image $(IMAGE) (docker, podman or buildah)'
	@echo 'make image-test   builds it on stand-in bases, without a registry of images, and runs it (root; Debian)'
	@echo 'make run     the proxy with proxy.toml'

.PHONY: test
test:
	$(CARGO) test --locked --all-features
	$(MAKE) test-stores
	$(CARGO) run --quiet --locked --example custom_store --features store-contract

# The tests that are left out say themselves what they run on. Redis's client reads all certificates of the system for each
# connection, which is most of the work of a test that has hundreds: it finds none.
.PHONY: test-stores
test-stores:
	@tests/tools.sh
	@set -e; for store in $(STORES); do \
		if [ $$store = valkey ] && [ ! -x target/tools/bin/valkey-server ]; then \
			echo 'skipped: no Valkey for this platform'; continue; \
		fi; \
		echo "all keys in: $$store"; \
		SSL_CERT_FILE=/dev/null ONCEGATE_TEST_STORE=$$store $(CARGO) test --quiet --locked --all-features --test it -- \
			--skip deploy:: --skip documentation:: --skip harness_itself:: --skip servers_themselves:: --skip redis_ --skip replicas::; \
	done

# Both ends of every connection are open files of this machine, and most of one process.
.PHONY: soak
soak:
	ulimit -n 16384 && $(CARGO) test --locked --all-features --test it -- --ignored --nocapture --test-threads 1 soak::

.PHONY: chaos
chaos:
	$(CARGO) test --locked --all-features --test it -- --ignored --nocapture --test-threads 1 replicas::

.PHONY: fuzz
fuzz:
	fuzz/run.sh

.PHONY: check
check:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --all-features
	@if command -v cargo-deny >/dev/null; then \
		$(CARGO) deny --locked --all-features check bans licenses sources; \
	else \
		echo 'skipped: licences and bans (cargo install --locked cargo-deny)'; \
	fi

.PHONY: bench
bench:
	@benches/tools.sh
	$(CARGO) bench --locked --bench proxy

.PHONY: image
image:
	@if docker info >/dev/null 2>&1; then docker build $(REVISION) --tag $(IMAGE) .; \
	elif command -v podman >/dev/null; then podman build $(REVISION) --format docker --tag $(IMAGE) .; \
	elif command -v buildah >/dev/null; then buildah build $(REVISION) --format docker --tag $(IMAGE) .; \
	else echo 'make image needs a running docker, or podman, or buildah' >&2; exit 1; \
	fi

.PHONY: image-test
image-test:
	tests/image.sh

.PHONY: run
run:
	$(CARGO) run --release --locked -- --config proxy.toml
