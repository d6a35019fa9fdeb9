# Oncegate in a container: one binary, no shell, uid 65532, and nothing that writes to the root file system.
#
#   docker build -t oncegate .
#   docker run --read-only --cap-drop=ALL -p 8080:8080 -v "$PWD/proxy.toml:/etc/oncegate/proxy.toml:ro" oncegate
#
# There is no configuration inside: which API it stands before is for the operator to say, and a start without that
# fails with a sentence. Both bases can be replaced: the build base needs a C compiler and make, the runtime base glibc and
# libgcc of the build base's version or later.
ARG BUILD_IMAGE=rust:1.95-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${BUILD_IMAGE} AS build
ARG FEATURES=""
ARG REVISION=unknown
WORKDIR /src
COPY . .
# The revision is a label of oncegate_build_info. Linux on arm64 has pages of up to 64 KiB, which jemalloc has to be built for.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    if [ "$(uname -m)" = aarch64 ]; then export JEMALLOC_SYS_WITH_LG_PAGE=16; fi \
    && ONCEGATE_REVISION="${REVISION}" cargo build --release --locked --bin oncegate --features "${FEATURES}" \
    && cp target/release/oncegate /oncegate \
    && /oncegate --version

FROM ${RUNTIME_IMAGE}
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Oncegate" \
      org.opencontainers.image.description="A reverse proxy that makes APIs safe to retry" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build --chmod=0555 /oncegate /usr/local/bin/oncegate
# Commands that are given instead (`check`, `keys`, `healthcheck`) find it, too.
ENV ONCEGATE_CONFIG=/etc/oncegate/proxy.toml
USER 65532:65532
EXPOSE 8080 9090
STOPSIGNAL SIGTERM
# Kubernetes asks by its own probes instead. The admin listener of the configuration has to be there.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["/usr/local/bin/oncegate", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/oncegate"]
