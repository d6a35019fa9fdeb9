#!/usr/bin/env bash
# Builds the container file as it is, and runs what comes of it: as uid 65532 on a read-only root, with the demonstration, a
# request and its duplicate, a probe and a SIGTERM. Prints the sizes.
#
# No registry of images is asked: the bases are stand-ins, given by the build arguments. The one to build on is Debian's packages
# (debootstrap) with this machine's Rust and the crates of Cargo.lock mounted; the one to run on has what `distroless/cc` has of glibc, and no shell. Needs
# root, and a quarter of an hour of two cores where nothing is compiled yet.
set -euo pipefail
cd "$(dirname "$0")/.."

WORK=${WORK:-target/image}
BINARY_BYTES_MAX=$((20 * 1024 * 1024))
[ "$(id -u)" = 0 ] || { echo 'make image-test needs root: it makes root file systems' >&2; exit 1; }
missing=""
for tool in buildah debootstrap curl; do command -v $tool >/dev/null || missing="$missing $tool"; done
if [ -n "$missing" ]; then
    apt-get update -qq
    # The packages' names are one word each.
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing
fi
mkdir -p "$WORK"
WORK=$(cd "$WORK" && pwd)

# On the disk that has room: every layer is a whole copy.
images() {
    buildah --storage-driver vfs --root "$WORK/storage" --runroot "$WORK/run" "$@"
}

step() {
    printf '\n== %s (%s s)\n' "$*" "$SECONDS"
}

children=""
clean() {
    # Each of them is ours, and may have ended.
    for child in $children; do kill -9 "$child" 2>/dev/null || true; done
    images rm --all >/dev/null 2>&1 || true
}
trap clean EXIT

step 'the stand-ins'
debian=$WORK/debian
if [ ! -e "$debian/.whole" ]; then
    rm -rf "$debian"
    debootstrap --variant=minbase --include=gcc,libc6-dev,make,ca-certificates bookworm "$debian" http://deb.debian.org/debian \
        >"$WORK/debootstrap.log" 2>&1 || { tail -20 "$WORK/debootstrap.log" >&2; exit 1; }
    rm -rf "$debian"/var/cache/apt/archives/*.deb "$debian"/var/lib/apt/lists/*
    touch "$debian/.whole"
fi
# Cargo in there finds every crate without the network.
mkdir -p "$debian/usr/local/cargo"
cargo vendor --quiet --locked --versioned-dirs "$WORK/vendor" >/dev/null
printf '[source.crates-io]\nreplace-with = "vendored"\n[source.vendored]\ndirectory = "/usr/local/vendor"\n' \
    >"$debian/usr/local/cargo/config.toml"
if ! images inspect --type image localhost/stand-in-builder >/dev/null 2>&1; then
    base=$(images from scratch)
    images add --quiet "$base" "$debian" / >/dev/null
    images config --env PATH=/usr/local/rust/bin:/usr/local/bin:/usr/bin:/bin --env CARGO_HOME=/usr/local/cargo "$base"
    images commit --quiet "$base" localhost/stand-in-builder >/dev/null
    images rm "$base" >/dev/null
fi
if ! images inspect --type image localhost/stand-in-runtime >/dev/null 2>&1; then
    base=$(images from scratch)
    root=$(images mount "$base")
    mkdir -p "$root"/{lib64,lib/x86_64-linux-gnu,etc/ssl/certs,tmp,proc,dev,usr/local/bin}
    cp -L "$debian/lib64/ld-linux-x86-64.so.2" "$root/lib64/"
    for library in libc.so.6 libm.so.6 libgcc_s.so.1 libpthread.so.0 libdl.so.2 librt.so.1; do
        cp -L "$debian/lib/x86_64-linux-gnu/$library" "$root/lib/x86_64-linux-gnu/"
    done
    cp -L "$debian/etc/ssl/certs/ca-certificates.crt" "$root/etc/ssl/certs/"
    echo 'nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin' >"$root/etc/passwd"
    images umount "$base" >/dev/null
    images commit --quiet "$base" localhost/stand-in-runtime >/dev/null
    images rm "$base" >/dev/null
fi

step 'the image'
images bud --isolation chroot --format docker --pull-never --tag localhost/oncegate \
    --volume "$(rustc --print sysroot):/usr/local/rust:ro" --volume "$WORK/vendor:/usr/local/vendor:ro" \
    --build-arg BUILD_IMAGE=localhost/stand-in-builder --build-arg RUNTIME_IMAGE=localhost/stand-in-runtime \
    --build-arg REVISION=of-a-test . >"$WORK/bud.log" 2>&1 ||
    { tail -40 "$WORK/bud.log" >&2; exit 1; }

step 'what it says of itself'
said=$(images inspect --type image localhost/oncegate)
for word in 65532:65532 SIGTERM /usr/local/bin/oncegate /etc/oncegate/proxy.toml healthcheck org.opencontainers.image.title; do
    case $said in *"$word"*) ;; *) echo "the image says nothing of $word: $said" >&2; exit 1 ;; esac
done

container=$(images from --pull-never localhost/oncegate)
root=$(images mount "$container")
mkdir -p "$root/etc/oncegate"
[ ! -e "$root/bin/sh" ] || { echo 'there is a shell in the image' >&2; exit 1; }

# The program in the image, as Kubernetes starts it: read-only but for what a runtime mounts, an unprivileged user, the
# image's environment.
inside() {
    # The words of $1 are expanded in there.
    # shellcheck disable=SC2016
    exec unshare --mount --propagation private sh -c '
        root=$1 config=$2; shift 2
        mount --bind "$root" "$root" && mount --bind "$config" "$root/etc/oncegate"
        mount -t proc proc "$root/proc" && mount --rbind /dev "$root/dev"
        mount -o remount,bind,ro "$root" && mount -o remount,bind,ro "$root/etc/oncegate"
        exec env -i PATH=/usr/sbin:/usr/bin ONCEGATE_CONFIG=/etc/oncegate/proxy.toml setpriv --no-new-privs \
            chroot --userspec 65532:65532 --groups 65532 "$root" /usr/local/bin/oncegate "$@"' - "$root" "$WORK/etc" "$@"
}

# Waits for $2 in the file $1.
await() {
    for _ in $(seq 100); do
        if grep -q "$2" "$1"; then return; fi
        sleep 0.1
    done
    echo "waited in vain for: $2" >&2
    cat "$1" >&2
    exit 1
}

step 'as uid 65532 on a read-only root'
mkdir -p "$WORK/etc"
(inside --version)
(inside demo) >"$WORK/demo.log" 2>&1 &
demo=$!
children="$children $demo"
await "$WORK/demo.log" 'The API was charged 1 time'
api=$(sed -n 's/^A legacy API .* listens on \(http:[^ ]*\)\.$/\1/p' "$WORK/demo.log")
cat >"$WORK/etc/proxy.toml" <<TOML
[server]
listen = ["127.0.0.1:0"]
[admin]
listen = "127.0.0.1:0"
[upstreams.legacy]
endpoints = ["$api"]
[[routes]]
name = "charges"
path = "/v1/charges"
upstream = "legacy"
TOML
chmod -R a+rX "$WORK/etc"
# What the image is started with by itself.
(inside) >"$WORK/oncegate.log" 2>&1 &
oncegate=$!
children="$children $oncegate"
await "$WORK/oncegate.log" serving
# Its first line of the log has both addresses.
listen=$(sed -n 's/.*"listen":"[^0-9]*\(127[0-9.]*:[0-9]*\).*/\1/p' "$WORK/oncegate.log" | head -1)
admin=$(sed -n 's/.*"admin":"[^0-9]*\(127[0-9.]*:[0-9]*\).*/\1/p' "$WORK/oncegate.log" | head -1)
grep -qE "^Uid:\s+65532" "/proc/$oncegate/status" || { echo 'it does not run as uid 65532' >&2; exit 1; }
grep -qE "^CapEff:\s+0+$" "/proc/$oncegate/status" || { echo 'it has capabilities' >&2; exit 1; }
(inside healthcheck --admin "http://$admin")
(inside check) >"$WORK/check.log"
curl --silent --show-error --fail "http://$admin/metrics" >"$WORK/metrics"
grep -q '^oncegate_build_info{.*revision="of-a-test"' "$WORK/metrics" ||
    { echo 'the page of metrics does not name the revision' >&2; exit 1; }
for expected in first duplicate; do
    curl --silent --show-error --fail --include --header 'Idempotency-Key: image-test' --data '{"amount":4200}' \
        "http://$listen/v1/charges" >"$WORK/$expected"
done
grep -qi '^idempotent-replayed: true' "$WORK/duplicate" || { cat "$WORK/duplicate" >&2; exit 1; }
kill -TERM "$oncegate"
wait "$oncegate" || { echo "it ended with $? after SIGTERM" >&2; cat "$WORK/oncegate.log" >&2; exit 1; }
if (inside healthcheck --admin "http://$admin") >/dev/null 2>&1; then
    echo 'the probe finds a process that has ended' >&2
    exit 1
fi
kill -TERM "$demo"
wait "$demo" || { echo "the demonstration ended with $?" >&2; exit 1; }

step 'sizes'
binary=$(stat --format %s "$root/usr/local/bin/oncegate")
whole=$(du --summarize --bytes "$root" | cut -f1)
echo "the program: $((binary / 1024)) KiB, all that the image adds to its base"
echo "with a base of glibc, libgcc and certificates alone: $((whole / 1024)) KiB"
[ "$binary" -le "$BINARY_BYTES_MAX" ] || { echo 'that is more than 20 MiB' >&2; exit 1; }
echo "the image works"
