"""A real Ceph cluster on loopback, from nothing in some seconds, in memory: one monitor or three, some OSDs, one pool `lun`."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

from tests.support.daemon import free_port

PROGRAMS = ("ceph", "rados", "ceph-mon", "ceph-osd", "ceph-authtool", "monmaptool")
READY_SECONDS = 120         # only a test that fails waits so long
POOL = "lun"
SETTINGS = {
    # everything on one host, and nobody has to prove who they are
    "auth_cluster_required": "none", "auth_service_required": "none", "auth_client_required": "none",
    "ms_bind_ipv6": "false", "osd_crush_chooseleaf_type": "0",
    "osd_pool_default_size": "1", "osd_pool_default_min_size": "1", "osd_pool_default_pg_num": "8",
    "osd_pool_default_pg_autoscale_mode": "off", "mon_allow_pool_size_one": "true", "mon_allow_pool_delete": "true",
    "mon_osd_min_down_reporters": "1", "osd_objectstore": "memstore", "osd_op_num_shards": "1", "osd_class_load_list": "*",
    "osd_class_default_list": "*", "mon_data_avail_crit": "0",
    # how soon an OSD looks whether it is full, and tells it
    "osd_heartbeat_interval": "1", "osd_mon_report_interval": "1", "mon_osd_adjust_heartbeat_grace": "false",
}


def missing() -> str:
    """What is not installed; empty: all that a cluster takes."""
    return next((each for each in PROGRAMS if shutil.which(each) is None), "")


class Cluster:
    """Made and started when constructed; `close` ends its processes."""

    def __init__(self, directory: Path, *, monitors: int = 1, osds: int = 1, size_bytes: int = 8 << 30,
                 address: str = "127.0.0.1", **settings: str) -> None:
        self.directory = directory
        self.conf = directory / "ceph.conf"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._monitors = {chr(ord("a") + i): free_port() for i in range(monitors)}
        self._address = address
        values = {**SETTINGS, "memstore_device_bytes": str(size_bytes), "public_network": f"{address}/24", **settings}
        self.conf.write_text("\n".join([
            "[global]", f"fsid = {uuid.uuid4()}", f"run_dir = {directory}", f"crash_dir = {directory}",
            f"keyring = {directory}/keyring", f"log_file = {directory}/$name.log", f"admin_socket = {directory}/$name.$pid.asok",
            f"mon_initial_members = {','.join(self._monitors)}",
            "mon_host = " + ",".join(f"[v2:{address}:{port}/0]" for port in self._monitors.values()),
            f"mon_data = {directory}/mon.$id", f"osd_data = {directory}/osd.$id",
            *(f"{key} = {value}" for key, value in values.items()), ""]))
        try:
            self._make_monitors()
            for number in range(osds):
                self._make_osd(number)
            self.wait_for(lambda: self.ceph("osd", "stat")["num_up_osds"] == osds)
            self.ceph("osd", "pool", "create", POOL)
            if values["osd_pool_default_size"] == "1":
                self.ceph("osd", "pool", "set", POOL, "size", "1", "--yes-i-really-mean-it")
            self.ceph("osd", "pool", "application", "enable", POOL, "rbd")
        except BaseException:
            self.close()
            raise

    def place(self, image: str) -> str:
        return f"rbd:{POOL}/{image}@{self.conf}"

    def ceph(self, *words: str) -> Any:
        """A command to the monitors; its answer from JSON."""
        result = subprocess.run(["ceph", "-c", str(self.conf), "--connect-timeout", "60", "-f", "json", *words],
                                capture_output=True, text=True, timeout=READY_SECONDS, check=False)
        assert result.returncode == 0, (words, result.stderr)
        text = result.stdout.strip()
        return json.JSONDecoder().raw_decode(text)[0] if text else None

    def blocked(self) -> set[str]:
        return {each["addr"] for each in self.ceph("osd", "blocklist", "ls") or []}

    def fill(self, full: bool) -> None:
        """Have the cluster call itself full, with the little that an image takes, or no more; returns when its map says so."""
        for name, ratio in zip(("full", "backfillfull", "nearfull"), ("0.000003", "0.000002", "0.000001") if full else
                               ("0.95", "0.9", "0.85"), strict=True):
            self.ceph("osd", f"set-{name}-ratio", ratio)
        self.wait_for(lambda: ("full" in self.ceph("osd", "dump")["pools"][0]["flags_names"].split(",")) == full)

    def empty(self) -> None:
        """Remove what is in the pool, whoever watches it: an OSD in memory keeps it all."""
        self._run("rados", "-c", str(self.conf), "purge", POOL, "--yes-i-really-really-mean-it")

    def signal(self, name: str, number: signal.Signals) -> None:
        """To a daemon of the cluster: mon.a, osd.0."""
        self.processes[name].send_signal(number)

    def wait_for(self, condition: Any) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"the cluster is not ready: {self.log()}"
            time.sleep(0.1)

    def log(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-500:] for path in sorted(self.directory.glob("*.out")))

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()
        self.processes.clear()

    def start(self, name: str) -> None:
        """Start a daemon of the cluster that is not running."""
        kind, _, number = name.partition(".")
        with (self.directory / f"{name}.out").open("ab") as out:
            self.processes[name] = subprocess.Popen([f"ceph-{kind}", "-i", number, "-c", str(self.conf), "-f"], stdout=out,
                                                    stderr=out, stdin=subprocess.DEVNULL, env={**os.environ, "CEPH_ARGS": ""})

    def _run(self, *words: str) -> None:
        result = subprocess.run(words, capture_output=True, text=True, timeout=READY_SECONDS, check=False)
        assert result.returncode == 0, (words, result.stderr)

    def _make_monitors(self) -> None:
        keyring, monmap = str(self.directory / "keyring"), str(self.directory / "monmap")
        self._run("ceph-authtool", keyring, "--create-keyring", "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        caps = [word for each in ("mon", "osd") for word in ("--cap", each, "allow *")]
        self._run("ceph-authtool", keyring, "--gen-key", "-n", "client.admin", *caps)
        fsid = self.conf.read_text().split("fsid = ")[1].split("\n")[0]
        adds = [("--addv", name, f"[v2:{self._address}:{port}/0]") for name, port in self._monitors.items()]
        self._run("monmaptool", "--create", "--fsid", fsid, *itertools.chain(*adds), monmap)
        for name in self._monitors:
            self._run("ceph-mon", "-c", str(self.conf), "--mkfs", "-i", name, "--monmap", monmap, "--keyring", keyring)
            self.start(f"mon.{name}")

    def _make_osd(self, number: int) -> None:
        (self.directory / f"osd.{number}").mkdir()
        identity = str(uuid.uuid4())
        self.ceph("osd", "new", identity, str(number))
        self._run("ceph-osd", "-c", str(self.conf), "-i", str(number), "--mkfs", "--osd-uuid", identity)
        self.start(f"osd.{number}")
