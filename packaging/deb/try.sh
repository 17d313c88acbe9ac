#!/bin/bash
# The Debian package in a clean chroot of this machine's release: installed, serving, purged without a trace but the data.
#
# Mounts and processes are in namespaces and end with this script. Needs root, and mmdebstrap.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
die() { echo "try.sh: $*" >&2; exit 1; }
if [ -z "${LUNETTE_DEB:-}" ]; then
    [ "$(id -u)" = 0 ] || die "needs root, for a chroot"
    command -v mmdebstrap > /dev/null || { apt-get -qq update && apt-get -qq install -y --no-install-recommends mmdebstrap; } \
        > /dev/null || die "needs the Debian package mmdebstrap"
    LUNETTE_DEB=$(mktemp -d "${TMPDIR:-/var/tmp}/lunette-deb.XXXXXX")
    export LUNETTE_DEB
    trap 'rm -rf --one-file-system "$LUNETTE_DEB"' EXIT
    unshare --mount --pid --fork --kill-child -- "$0" "$@"
    exit
fi
root=$LUNETTE_DEB/root
inside=(env -i HOME=/root LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive chroot "$root")
serves() {      # as the package's user, in a network of its own
    unshare --net -- "${inside[@]}" bash -ec '
        as="setpriv --reuid lunette --regid lunette --clear-groups"
        $as lunette pool create /var/lib/lunette/pool.lunette --size 1G
        install -d -o lunette -g lunette /run/lunette
        ip link set lo up 2> /dev/null || python3 -c "
import fcntl, socket, struct
with socket.socket() as s: fcntl.ioctl(s, 0x8914, struct.pack(\"16sh22x\", b\"lo\", 0x49))"
        $as lunette serve --config /etc/lunette/lunette.toml --api /run/lunette/api.sock & daemon=$!
        for _ in $(seq 600); do
            if lunette create v --size 64M 2> /dev/null; then break; fi
            sleep 0.1
        done
        lunette ls
        kill $daemon
        wait $daemon'
}
listing() { "${inside[@]}" find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /var/lib/dpkg -o -path /var/cache \
    -o -path /var/log -o -path /tmp -o -path /etc/.pwd.lock \) -prune -o -print | sort; }
mount --make-rprivate /
deb=$("$here/build.sh" "$LUNETTE_DEB")
release=$(. /etc/os-release && echo "$VERSION_CODENAME")
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -n 1)
apt-config dump | grep -E '^Acquire::(http|https|ForceIPv|Retries|Check-)' > "$LUNETTE_DEB/apt.conf" || true
more=$(dpkg-deb --field "$deb" Depends | grep -o 'liburing2' || true)
mmdebstrap --quiet --mode=root --variant=minbase --include="python3,adduser,ca-certificates${more:+,$more}" \
    --aptopt="$LUNETTE_DEB/apt.conf" "$release" "$root" "$mirror"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs run "$root/run"
listing > "$LUNETTE_DEB/before"
cp "$deb" "$root/tmp/lunette.deb"
"${inside[@]}" dpkg --install /tmp/lunette.deb
[ "$("${inside[@]}" lunette --version | grep -c lunette)" = 1 ] || die "lunette --version says nothing"
serves
for each in man/man1/lunette.1.gz man/man1/lunette-create.1.gz bash-completion/completions/lunette; do
    [ -s "$root/usr/share/$each" ] || die "$each is not installed"
done
"${inside[@]}" dpkg --purge lunette
listing > "$LUNETTE_DEB/after"
left=$(comm -13 "$LUNETTE_DEB/before" "$LUNETTE_DEB/after" | grep -v '^/etc/[a-z]*-$')
[ "$left" = "$(printf '%s\n' /var/lib/lunette /var/lib/lunette/pool.lunette)" ] || die "left behind: $left"
[ -z "$(comm -23 "$LUNETTE_DEB/before" "$LUNETTE_DEB/after")" ] || die "taken away: $(comm -23 "$LUNETTE_DEB/before" "$LUNETTE_DEB/after")"
echo "the package was installed, served, and went without a trace but the data: $(du -h "$deb" | cut -f1)"
