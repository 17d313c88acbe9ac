"""`make run`: a pool under ./run with a volume, a snapshot and a clone to play with, served on loopback."""

from __future__ import annotations

import sys
from pathlib import Path

from target.config import ServeConfig, parse_portal
from target.errors import LunetteError
from target.models.objects import Clone, Connect, Create, Snapshot
from target.server.daemon import Daemon, serve
from target.volumes.gateway import create_pool

POOL = Path("run/lunette.pool")
API = Path("run/api.sock")
POOL_BYTES = 64 << 30
VOLUME_BYTES = 10 << 30
LISTEN = "127.0.0.1:3260"

HINTS = """
Try, from another terminal (Ctrl-C here stops cleanly; a second run finds everything as it was left):
  .venv/bin/lunette ls                                              # what there is
  .venv/bin/lunette snapshot demo@second                            # instant, whatever the size
  qemu-img info {demo}
  qemu-io -f raw -c 'write -P 0x5a 0 1M' {clone}
  sudo iscsiadm -m discovery -t sendtargets -p {portal}
  sudo iscsiadm -m node -T {target} -p {portal} --login
  fio --name=try --ioengine=libiscsi --filename={escaped} --rw=randread --bs=4k --iodepth=32 \\
      --size=1g --runtime=5 --time_based --thread                   # a fio that was built with libiscsi
"""


async def prepare(daemon: Daemon) -> None:
    """Make the three demo objects in a pool that has never had any, then say where they are."""
    if not daemon.pool.objects() and not daemon.catalog.connections() and not daemon.pool.kv():
        run = daemon.commands.run
        await run("create", Create(name="demo", size_bytes=VOLUME_BYTES))
        await run("snapshot", Snapshot(names=["demo@first"]))
        await run("connect", Connect(name="demo@first"))
        await run("clone", Clone(source="demo@first", name="demo-clone"))
    urls = {}
    for connection in daemon.catalog.connections():
        info = daemon.pool.info(connection.object_id)
        if info is not None:
            urls[info.name] = daemon.access.url(connection.lun)
            print(f"{info.name:12} {info.kind:8} {urls[info.name]}")
    demo = urls.get("demo", "iscsi://...")
    print(HINTS.format(demo=demo, clone=urls.get("demo-clone", demo), portal=LISTEN, target=daemon.target_name,
                       escaped=demo.replace(":", "\\\\:")), flush=True)


def main() -> int:
    """Create what is missing and serve in the foreground."""
    try:
        POOL.parent.mkdir(exist_ok=True)
        if not POOL.exists():
            create_pool(POOL, name="lunette", size_bytes=POOL_BYTES)
        return serve(ServeConfig(pool_path=POOL, portals=(parse_portal(LISTEN),), api_path=API, open_access=True), prepare)
    except LunetteError as error:
        print(f"lunette: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
