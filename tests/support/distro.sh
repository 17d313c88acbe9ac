#!/bin/bash
# The README's two commands on a fresh, minimal Debian of any release, in a clean clone of HEAD.
#
#   distro.sh RELEASE [PYTEST-ARGUMENT...]     with arguments, these tests only
#
# mmdebstrap makes a chroot of what the README asks for, with this machine's ways to the registries (apt's settings, pip's,
# names, certificates). All that is fetched is fetched first; then `make run` and `make test` have a loopback of their own and
# no other network. Mounts and processes are in namespaces and end with this script. Needs root.
set -euo pipefail
release=$1; shift
asked=git,gcc,make,python3                 # as in the README
also=ca-certificates                       # for registries behind TLS
top=$(cd "$(dirname "$0")/../.." && pwd)
die() { echo "distro.sh: $*" >&2; exit 1; }

if [ -z "${LUNETTE_DISTRO:-}" ]; then      # once more, in namespaces, with a directory that is removed afterwards
    [ "$(id -u)" = 0 ] || die "needs root, for a chroot"
    command -v mmdebstrap >/dev/null || { apt-get -qq update && apt-get -qq install -y --no-install-recommends mmdebstrap; } \
        >/dev/null || die "needs the Debian package mmdebstrap"
    LUNETTE_DISTRO=$(mktemp -d "${TMPDIR:-/var/tmp}/lunette-$release.XXXXXX")
    export LUNETTE_DISTRO
    trap 'rm -rf --one-file-system "$LUNETTE_DISTRO"' EXIT
    unshare --mount --pid --fork --kill-child -- "$0" "$release" "$@"
    exit
fi
root=$LUNETTE_DISTRO/root
inside=(env -u VIRTUAL_ENV HOME=/root LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$root")
alone=(unshare --net -- bash -c 'ip link set lo up && exec "$@"' bash)

make_root() {
    local mirror settings=$LUNETTE_DISTRO/apt.conf
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -n 1)
    apt-config dump | grep -E '^Acquire::(http|https|ForceIPv|Retries|Check-)' > "$settings" || true
    mmdebstrap --quiet --mode=root --variant=minbase --include="$asked,$also" --aptopt="$settings" "$release" "$root" "$mirror"
}

mount_systems() {
    mount -t proc proc "$root/proc"
    mount --rbind /sys "$root/sys"
    mount --rbind /dev "$root/dev"
    mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
}

copy_ways_out() {
    local each
    cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
    cp -rL /usr/local/share/ca-certificates "$root/usr/local/share/" 2>/dev/null || true
    "${inside[@]}" update-ca-certificates >/dev/null 2>&1
    for each in /etc/pip.conf /etc/xdg/pip "$HOME/.config/pip" "$HOME/.pip"; do
        [ -e "$each" ] || continue
        mkdir -p "$root$(dirname "$each")"
        cp -rL "$each" "$root$each"
    done
    for each in $(python3 -m pip config list | grep -o '/[^ ,'"'"']*' | sed 's|^//*|/|; s|/simple$||' | sort -u); do    # wheels here
        [ -d "$each" ] || continue
        mkdir -p "$root$each"
        mount --bind "$each" "$root$each"
    done
}

run_until_it_serves() {
    "${alone[@]}" "${inside[@]}" bash -c '
        make run > /tmp/run.log 2>&1 & run=$!
        for _ in $(seq 240); do
            if .venv/bin/lunette ls 2>/dev/null; then kill $run; wait $run; exit 0; fi
            sleep 0.5
        done
        cat /tmp/run.log; exit 1'
}

mount --make-rprivate /
make_root
mount_systems
copy_ways_out
git clone --quiet "$top" "$root/lunette"
inside=("${inside[@]}" env --chdir=/lunette)
echo "== $release: build and clients ($("${inside[@]}" python3 --version))"
"${inside[@]}" make build clients
echo "== $release: make run"
run_until_it_serves
echo "== $release: make test${*:+ ($*)}"
if [ $# = 0 ]; then
    "${alone[@]}" "${inside[@]}" make test
else
    "${alone[@]}" "${inside[@]}" .venv/bin/python -m pytest -q -n 2 --dist loadfile "$@"
fi
