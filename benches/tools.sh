#!/bin/sh
# Sees to it that what the benchmark needs is there: wrk, nginx, h2load and Redis. Installs them where it may.
set -eu

missing=""
for tool in wrk nginx h2load redis-server; do
    command -v "$tool" >/dev/null && continue
    case $tool in h2load) missing="$missing nghttp2-client" ;; *) missing="$missing $tool" ;; esac
done
[ -z "$missing" ] && exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq
    # nginx and Redis are started by the benchmark alone.
    # shellcheck disable=SC2086
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing
else
    echo "the benchmark needs:$missing; install with your package manager (Debian: apt-get install$missing)" >&2
    exit 1
fi
