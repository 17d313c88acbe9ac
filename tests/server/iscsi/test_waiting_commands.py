"""What a command of Python's waits for: others under way on its unit."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from target.scsi.designators import naa
from target.server.iscsi.dataplane import LUNF_SLOW, AbortedEvent
from tests.support.session_rig import Rig, command
from tests.support.waiting import eventually


async def test_format_waits_for_what_is_under_way(rig: Rig) -> None:
    """Neither a native write in the engine nor one that Python runs may land behind FORMAT UNIT; new ones are refused."""
    await rig.daemon.commands.run("create", {"name": "v", "size_bytes": 1 << 20})
    one, conn = rig.login()
    other, other_conn = rig.login("iqn.2026-01.test:b")
    unit = rig.daemon.units.known(1)
    assert unit is not None
    unit.attention.take(one.nexus)
    unit.attention.take(other.nexus)
    waiting: list[tuple[int, dict[str, Any]]] = []
    rig.reactor.abort = lambda token, **which: waiting.append((token, which))   # type: ignore[method-assign]
    write = bytes([0x2A, 0, 0, 0, 0, 0, 0, 0, 1, 0])
    rig.native.hold = True
    rig.reactor.post(command(other, other_conn, 1, write, b"w" * 512))          # Python has given it to the engine
    await eventually(lambda: any(op == "write" for op, _ in rig.native.started))
    rig.reactor.post(command(one, conn, 2, bytes([0x04, 0, 0, 0, 0, 0])))
    await eventually(lambda: bool(waiting))
    assert [which for _, which in waiting] == [{"object_id": 1, "device": True}]
    assert all(rig.reactor.luns[each.number, 0][1] & LUNF_SLOW for each in (one, other))
    rig.reactor.post(command(other, other_conn, 3, write, b"x" * 512))
    await eventually(lambda: bool(rig.reactor.called("complete")))
    assert rig.reactor.called("complete")[0][1:3] == (3, 2)                     # CHECK CONDITION: formatting
    rig.reactor.post(AbortedEvent(waiting[0][0], 1))
    await asyncio.sleep(0.05)
    assert not any(op == "unmap" for op, _ in rig.native.started)
    rig.native.release()
    await eventually(lambda: len(rig.reactor.called("complete")) == 3)
    assert [each[1:3] for each in rig.reactor.called("complete")] == [(3, 2), (1, 0), (2, 0)]
    assert [op for op, _ in rig.native.started if op in ("write", "unmap")] == ["write", "unmap"]
    assert not rig.reactor.luns[other.number, 0][1] & LUNF_SLOW


@pytest.mark.parametrize("ended", [False, True])
async def test_format_waits_for_a_copy_that_another_unit_was_asked_for(rig: Rig, ended: bool) -> None:
    for name in "vw":
        await rig.daemon.commands.run("create", {"name": name, "size_bytes": 1 << 20})
    one, conn = rig.login()
    other, other_conn = rig.login("iqn.2026-01.test:b")
    units = [unit for unit in map(rig.daemon.units.known, (1, 2)) if unit is not None]
    for unit in units:
        unit.attention.take(one.nexus)
        unit.attention.take(other.nexus)
    names = [naa(unit.identity) for unit in units]
    cscds = b"".join(bytes([0xE4, 0, 0, 0, 1, 3, 0, len(name)]) + name.ljust(20, b"\0") + b"\0\0\2\0" for name in names)
    segment = bytes([2, 0, 0, 24, 0, 1, 0, 0, 0, 0, 0, 8]) + bytes(16)             # from the second to the first
    lists = bytes([1, 0, 0, 64]) + bytes(7) + b"\x1c" + bytes(4) + cscds + segment
    copy = command(other, other_conn, 1, bytes([0x83]) + bytes(9) + len(lists).to_bytes(4) + bytes(2), lists)
    rig.native.hold = True
    rig.reactor.post(copy._replace(lun=1, bhs=bytes(9) + b"\1" + bytes(38)))
    await eventually(lambda: any(op == "share" for op, _ in rig.native.started))
    if ended:
        rig.table.end(other, "its last connection closed")
    rig.reactor.post(command(one, conn, 2, bytes([0x04, 0, 0, 0, 0, 0])))
    await asyncio.sleep(0.05)
    assert not any(op == "unmap" for op, _ in rig.native.started)
    rig.native.release()
    await eventually(lambda: (2, 0) in [each[1:3] for each in rig.reactor.called("complete")])
    assert [op for op, _ in rig.native.started if op in ("share", "unmap")] == ["share", "unmap"]
