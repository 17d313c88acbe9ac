#!/bin/bash
# A Debian package of the core that is built here: build.sh OUT_DIRECTORY. Prints the package's path. No root is needed.
#
# All of it, and what it needs from PyPI, lies in /usr/lib/lunette, for the Python of the release that it is built on.
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
out=$(realpath -m "$1")
python=$top/.venv/bin/python
[ -x "$python" ] || { echo "build.sh: make build comes first" >&2; exit 1; }
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
chmod 755 "$stage"
umask 022

lib=$stage/usr/lib/lunette
mkdir -p "$lib" "$stage/DEBIAN" "$stage/usr/bin" "$stage/etc/lunette" "$stage/usr/lib/systemd/system" \
    "$stage/usr/share/doc/lunette" "$stage/usr/share/lunette/prometheus" "$stage/usr/share/lunette/grafana"
needs=$("$python" -c 'import sys, tomllib; print("\n".join(tomllib.load(open(sys.argv[1], "rb"))["project"]["dependencies"]))' \
    "$top/pyproject.toml")
mapfile -t needs <<< "$needs"
"$python" -m pip install -q --disable-pip-version-check --no-compile --only-binary :all: -c "$top/constraints.txt" \
    --target "$lib" "${needs[@]}"
cp -rL "$top/core" "$top/target" "$lib/"
find "$lib/core" "$lib/target" \( -name '*.c' -o -name '*.h' -o -name '*.p[yx]x' -o -name '*.px[di]' -o -name '*.o' \) -delete
find "$lib" -name __pycache__ -prune -exec rm -rf {} +
find "$lib/core" -name '*.so' -exec strip --strip-unneeded {} +
version=$(sed -n 's/^VERSION = "\(.*\)"/\1/p' "$top/target/version.py")
information=$lib/lunette-$version.dist-info        # whose version `lunette --version` says
mkdir "$information"
printf 'Metadata-Version: 2.1\nName: lunette\nVersion: %s\n' "$version" > "$information/METADATA"
rm -rf "$lib/bin"

# The release's own liburing, where it is new enough (core/wire/liburing.py).
ring= choice=
if python3 -c 'import ctypes; ctypes.CDLL("liburing.so.2").io_uring_setup_buf_ring' 2> /dev/null; then
    ring=", liburing2 (>= 2.4)"
    choice='import os; os.environ.setdefault("LUNETTE_LIBURING", "system")'
fi
cat > "$stage/usr/bin/lunette" <<END
#!/usr/bin/python3 -I
import sys
$choice
sys.path.insert(0, "/usr/lib/lunette")
from target.cli import main  # noqa: E402

main()
END
chmod 755 "$stage/usr/bin/lunette"
cp "$top"/packaging/systemd/*.service "$stage/usr/lib/systemd/system/"
cp "$top/packaging/lunette.toml" "$stage/etc/lunette/lunette.toml"
lunette=("$python" -m target)
cd "$top"
"${lunette[@]}" man "$stage/usr/share/man/man1" > /dev/null
gzip -9n "$stage"/usr/share/man/man1/*.1
for each in bash:bash-completion/completions/lunette zsh:zsh/vendor-completions/_lunette \
    fish:fish/vendor_completions.d/lunette.fish; do
    mkdir -p "$stage/usr/share/$(dirname "${each#*:}")"
    "${lunette[@]}" completion "${each%%:*}" > "$stage/usr/share/${each#*:}"
done
cp "$top"/packaging/prometheus/*.yml "$stage/usr/share/lunette/prometheus/"
cp "$top"/packaging/grafana/*.json "$stage/usr/share/lunette/grafana/"
about=$stage/usr/share/doc/lunette
cp -r "$top/docs" "$top/README.md" "$top/CONTRIBUTING.md" "$top/CHANGELOG.md" "$about/"
gzip -9n > "$about/changelog.gz" <<END
lunette ($version) unstable; urgency=medium

  * What changed is in CHANGELOG.md, beside this file.

 -- Lunette maintainers <maintainers@lunette.invalid>  $(date -R -r "$top/CHANGELOG.md")
END
cat > "$about/copyright" <<'END'
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: 2026 The Lunette authors
License: Apache-2.0
 On Debian systems the whole text is in /usr/share/common-licenses/Apache-2.0.
Comment: What comes from PyPI lies beside it in /usr/lib/lunette, each with its
 own license in its .dist-info.
END

release=$("$python" -c 'import sys; print(f"{sys.version_info[0]}.{sys.version_info[1]} {sys.version_info[0]}.{sys.version_info[1] + 1}")')
cat > "$stage/DEBIAN/control" <<END
Package: lunette
Version: $version
Architecture: $(dpkg --print-architecture)
Maintainer: Lunette maintainers <maintainers@lunette.invalid>
Depends: python3 (>= ${release% *}), python3 (<< ${release#* }), libc6, adduser$ring
Recommends: systemd
Installed-Size: $(du -sk "$stage" | cut -f1)
Section: net
Priority: optional
Description: iSCSI target whose every LUN is a volume, a snapshot or a clone
 A native block core and data plane, a Python control plane. Pools are files or
 block devices. What it needs from PyPI is inside, in /usr/lib/lunette.
END
echo /etc/lunette/lunette.toml > "$stage/DEBIAN/conffiles"
for each in postinst prerm postrm; do install -m 755 "$top/packaging/deb/$each" "$stage/DEBIAN/$each"; done
mkdir -p "$out"
dpkg-deb --root-owner-group -Zxz -z1 --build "$stage" "$out" > /dev/null
ls "$out/lunette_${version}"_*.deb
