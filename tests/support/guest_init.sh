#!/bin/busybox sh
# The guest's init: devices, network, udev, iscsid; then an agent that runs what tests/support/guest.py asks for.
# One line a command, "ID BASE64", and one line an answer, "ID STATUS BASE64". Commands run side by side.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
/bin/busybox --install -s /bin 2>/dev/null        # where a package brought the full program, that stays
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t tmpfs -o mode=755 run /run
mount -t tmpfs tmp /tmp
mkdir -p /run/lock/iscsi /run/answers
for module in $(cat /etc/modules); do modprobe -q "$module"; done
echo root:x:0:0:root:/root:/bin/sh > /etc/passwd
ln -s /proc/self/mounts /etc/mtab
ip link set lo up
net=2
for nic in $(cd /sys/class/net; echo e*[0-9]); do      # the host is 10.0.2.2 by the first, 10.0.3.2 by the second
    ip link set $nic up
    ip addr add 10.0.$net.15/24 dev $nic
    net=$((net + 1))
done
ln -s /bin/udevadm /bin/systemd-udevd
systemd-udevd --daemon
udevadm trigger --action=add --subsystem-match=block
echo InitiatorName=iqn.2026-11.test.guest:kernel > /etc/iscsi/initiatorname.iscsi
# Dead connections are found in a second or two; what a path without others does with its commands is each test's own.
cat > /etc/iscsi/iscsid.conf <<CONF
node.startup = manual
node.session.timeo.replacement_timeout = 120
node.conn[0].timeo.login_timeout = 10
node.conn[0].timeo.noop_out_interval = 1
node.conn[0].timeo.noop_out_timeout = 2
node.session.err_timeo.abort_timeout = 5
node.session.iscsi.InitialR2T = No
node.session.iscsi.ImmediateData = Yes
CONF
iscsid -f &
until grep -q ISCSIADM_ABSTRACT_NAMESPACE /proc/net/unix; do usleep 20000; done
until [ -e /dev/vport*p1 ]; do usleep 20000; done
exec 3<> "$(echo /dev/vport*p1)"
echo "0 0 $(base64 -w0 < /proc/uptime)" >&3
while read -r id command <&3; do
    {
        echo "$command" | base64 -d > /run/answers/$id.sh
        sh /run/answers/$id.sh > /run/answers/$id 2>&1 < /dev/null 3>&-
        status=$?
        { echo -n "$id $status "; base64 -w0 < /run/answers/$id; echo; } > /run/answers/$id.line
        flock /run/answers/lock cat /run/answers/$id.line >&3
        rm /run/answers/$id /run/answers/$id.*
    } &
done
poweroff -f
