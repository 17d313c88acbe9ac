"""SPDK's iSCSI target as a peer, where somebody has built it: $SPDK names its checkout."""

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from bench import initiator
from bench.machine import first_line
from bench.targets import START_TIMEOUT_S, Target, TargetError, awake, rest

ANSWER_BYTES = 65536
ITS_OWN_MIB = 1024            # what it wants for itself beside the memory of its disks


def find_spdk() -> Path:
    """The program, which must have been built."""
    found = Path(os.environ.get("SPDK", "")) / "build/bin/iscsi_tgt"
    if not os.environ.get("SPDK") or not os.access(found, os.X_OK):
        raise TargetError("no iscsi_tgt of SPDK: $SPDK names no checkout that is built")
    return found


class Spdk(Target):
    """SPDK's target: a core of its own, which it polls; disks in its own memory, with `direct` files past the page cache.

    It rests while nobody asks it for anything: else all others would be measured on a machine with one core less.
    """

    kind = "spdk"
    iqn = "iqn.2026-11.dev.lunette.bench"

    def __init__(self, label: str, directory: Path, *, disks_mib: int, direct: bool = False) -> None:
        super().__init__(label, directory)
        self.rpc = self.directory / "rpc.sock"
        self.disks_mib, self.direct = disks_mib, direct

    def start(self) -> None:
        portal = {"tag": 1, "private": False, "portals": [{"host": "127.0.0.1", "port": str(self.port)}]}
        anyone = {"tag": 1, "initiators": ["ANY"], "netmasks": ["127.0.0.1/32"]}
        configuration = {"subsystems": [{"subsystem": "iscsi", "config": [
            {"method": "iscsi_create_portal_group", "params": portal},
            {"method": "iscsi_create_initiator_group", "params": anyone}]}]}
        path = self.directory / "configuration.json"
        path.write_text(json.dumps(configuration))
        self.spawn([str(find_spdk()), "-m", "0x1", "--no-huge", "--no-pci", "-s", str(ITS_OWN_MIB + self.disks_mib),
                    "-r", str(self.rpc), "-c", str(path)])
        self.wait_for_control()
        self.ask("framework_wait_init", {})
        rest(self.pid)

    def wait_for_control(self) -> None:
        """Its portal may listen before its control socket is there."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.rpc.exists():
            if time.monotonic() > deadline or self.process is None or self.process.poll() is not None:
                raise TargetError(f"{self.label} has no control socket: {self.last_words()}")
            time.sleep(0.02)

    def ask(self, method: str, params: dict[str, Any]) -> Any:
        """A call of its JSON-RPC 2.0 (SPDK's documentation, "JSON-RPC"), one a connection."""
        request = {"jsonrpc": "2.0", "id": 1, "method": method} | ({"params": params} if params else {})
        with awake(self.pid), socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(30)
            sock.connect(str(self.rpc))
            sock.sendall(json.dumps(request).encode())
            answer = b""
            while True:
                more = sock.recv(ANSWER_BYTES)
                answer += more
                try:
                    found = json.loads(answer)
                    break
                except json.JSONDecodeError:
                    if not more:
                        raise TargetError(f"{self.label}: {method} was not answered") from None
        if "error" in found:
            raise TargetError(f"{self.label}: {method}: {found['error'].get('message')}")
        return found["result"]

    def add_lun(self, name: str, size_mib: int, fill: bool = True) -> str:
        if self.direct:
            path = self.backing(name, size_mib, fill)
            self.ask("bdev_aio_create", {"name": name, "filename": str(path), "block_size": 512})
        else:
            self.ask("bdev_malloc_create", {"name": name, "num_blocks": size_mib * 2048, "block_size": 512})
        self.ask("iscsi_create_target_node", {
            "name": f"{self.iqn}:{name}", "alias_name": name, "pg_ig_maps": [{"pg_tag": 1, "ig_tag": 1}],
            "luns": [{"bdev_name": name, "lun_id": 0}], "queue_depth": 128, "disable_chap": True})
        url = f"iscsi://127.0.0.1:{self.port}/{self.iqn}:{name}/0"
        if fill and not self.direct:
            with awake(self.pid):
                initiator.fill(url, size_mib)
        return url

    def version(self) -> str:
        return first_line(str(find_spdk()), "--version")
