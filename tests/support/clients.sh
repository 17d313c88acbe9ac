#!/bin/sh
# The initiators that tests/interop drives: installed from Debian when we are root, named as missing when we are not.
# Tests that lack one are skipped and say so. Never fails. With `ceph` what a cluster takes, too.
missing=""
need() { command -v "$1" >/dev/null 2>&1 || case " $missing " in *" $2 "*) ;; *) missing="$missing $2" ;; esac; }
[ -e /usr/include/iscsi/iscsi.h ] || missing="$missing libiscsi-dev"
need iscsi-ls libiscsi-bin
need iscsi-test-cu libiscsi-bin
need qemu-img qemu-utils
need qemu-io qemu-utils
need fio fio
need openssl openssl
need promtool prometheus
need nbdinfo libnbd-bin
need nbdcopy libnbd-bin
need qemu-system-x86_64 qemu-system-x86
need jq jq
need virsh libvirt-clients
need libvirtd libvirt-daemon
ls /usr/lib/*/libvirt/storage-backend/*iscsi-direct.so >/dev/null 2>&1 ||
    missing="$missing libvirt-daemon-driver-storage-iscsi-direct"
ls /usr/lib/*/qemu/block-iscsi.so >/dev/null 2>&1 || missing="$missing qemu-block-extra"
if [ "${1:-}" = ceph ]; then
    need ceph-mon ceph-mon
    need ceph-osd ceph-osd
    need ceph ceph-common
    need ocf-tester resource-agents
    need xmllint libxml2-utils
    need etcd etcd-server
    ls /usr/lib/*/librbd.so.1 >/dev/null 2>&1 || missing="$missing librbd1"
fi
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing test clients:$missing"
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086
    { apt-get -qq update && apt-get -qq install -y --no-install-recommends $missing; } >/dev/null 2>&1 ||
        echo "could not install:$missing; the tests that need them are skipped"
else
    echo "not root, so these are not installed and their tests are skipped:$missing"
fi
exit 0
