"""docs/export.md says what the code has: structs, options, commands, limits."""

from __future__ import annotations

import re
import struct
from pathlib import Path

from core.stream.nbd import BATCH_BYTES, PIECES
from target.nbd import codes
from target.nbd.codes import Command, Option
from target.nbd.handshake import HANDLERS
from target.server.api import exports

PAGE = (Path(__file__).parents[2] / "docs" / "export.md").read_text()


def rows(title: str) -> list[list[str]]:
    """The cells of the table rows below a heading, up to the next one."""
    body = re.split(r"^#", PAGE.split(f"# {title}\n", 1)[1], flags=re.MULTILINE)[0]
    lines = [line for line in body.splitlines() if line.startswith("|") and not line.startswith("|---")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


def structs(module: object) -> dict[str, str]:
    return {name: value.format for name, value in vars(module).items() if isinstance(value, struct.Struct)}


def test_structs():
    table = rows("Structs")[1:]
    assert {row[0]: row[1] for row in table} == structs(codes)
    assert all(struct.calcsize(row[1]) == int(row[2]) for row in table)


def test_options_and_commands():
    assert {row[0]: int(row[1]) for row in rows("Options")[1:]} == {each.name: each.value for each in Option}
    assert {row[0]: int(row[1]) for row in rows("Requests")[1:]} == {each.name: each.value for each in Command}
    unsupported = {row[0] for row in rows("Options")[1:] if row[2] == "ERR_UNSUP"}
    assert unsupported == {each.name for each in Option if each not in HANDLERS}


def test_limits():
    from target.export import nbd_server
    from target.nbd import handshake

    limits = {row[0]: row[1] for row in rows("Limits")}
    assert limits["connections of a server"] == str(nbd_server.MAX_CONNECTIONS)
    assert limits["READs of a connection under way"] == f"{PIECES} pieces, {BATCH_BYTES >> 20} MiB"
    assert limits["an option; options of a handshake"] == f"{handshake.MAX_OPTION_BYTES >> 10} KiB; {handshake.MAX_OPTIONS}"
    assert limits["time for a handshake"] == f"{nbd_server.HANDSHAKE_SECONDS:.0f} s"
    assert limits["channels of a daemon"] == str(exports.MAX_CHANNELS)
    assert limits["connections that a daemon serves"] == str(exports.MAX_CONNECTIONS)
    assert limits["descriptors of a BLOCK_STATUS"] == f"{exports.RUNS_MOST} a context"
