"""Volumes mirrored between two daemons, libiscsi as the judge of what initiators see (docs/protection.md)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import socket
from collections.abc import Callable
from functools import partial

import pytest

from target.errors import LunetteError
from target.volumes.links import Credentials, open_link
from target.volumes.peers import make_credentials
from tests.support.libiscsi import GOOD, Answer, Initiator
from tests.support.pair import Pair, Refused, Side, paused, rounds, until

MIB = 1 << 20
pytestmark = pytest.mark.needs("libiscsi")


def test_a_replica_follows_read_only(pair: Pair) -> None:
    a, b = pair.a, pair.b
    source = random.Random(1)
    pair.mirrored("v")
    a.write("v", 5 * MIB, source.randbytes(MIB))
    rounds(a, "v")
    assert a.sha256("v") == b.sha256("v")
    answer = b.write("v", 0, bytes(4096))
    assert (answer.status, answer.key, answer.asc) == (2, 7, 0x2700)
    for side in (a, b):
        names = [name for name, row in side.ls().items() if name.startswith("v@mirror-") and row["holds"]]
        assert len(names) >= 2
        assert side.mirror("v")["role"] == {"a": "primary", "b": "replica"}[side.name]
    b.cli("snapshot", "v@own")
    for words in (("revert", "v@own"), ("resize", "v", "48M")):
        with pytest.raises(Refused, match="replica of a mirror"):
            b.cli(*words)
    with pytest.raises(Refused, match="held by mirror:a"):
        b.cli("delete", "v", "--force")
    with pytest.raises(Refused, match="demote it there"):
        b.cli("promote", "v", "--force")
    for side, keep in ((a, "here"), (b, "there")):
        with pytest.raises(Refused, match="has not diverged"):
            side.cli("mirror", "resolve", "v", "--keep", keep)


def test_roles_change_without_loss_and_back(pair: Pair) -> None:
    a, b = pair.a, pair.b
    source = random.Random(2)
    pair.mirrored("v")
    a.write("v", 4 * MIB, source.randbytes(MIB))
    digest = a.sha256("v")
    a.cli("demote", "v")
    assert a.write("v", 0, bytes(4096)).asc == 0x2700
    assert b.sha256("v") == digest
    b.cli("promote", "v")
    assert b.write("v", 6 * MIB, source.randbytes(MIB)).status == GOOD
    rounds(b, "v")
    assert a.mirror("v")["epoch"] == b.mirror("v")["epoch"] == 2
    assert a.sha256("v") == b.sha256("v") != digest
    sent = b.mirror("v")["sent_bytes"]
    assert sent < 3 * MIB                           # by difference only
    b.cli("demote", "v")
    a.cli("promote", "v")
    assert a.write("v", 6 * MIB, source.randbytes(MIB)).status == GOOD
    rounds(a, "v")
    assert a.sha256("v") == b.sha256("v")


def lost_primary(pair: Pair, *names: str) -> None:
    """A is killed when B has all but what was written last to these; B is promoted by force, and written to."""
    a, b = pair.a, pair.b
    for name in names:
        paused(a, name)
        a.write(name, 4096, b"a" * 4096)            # what B will never see of itself
    a.daemon.stop(signal.SIGKILL)
    for name in names:
        b.cli("promote", name, "--force")
        b.write(name, 8192, b"b" * 4096)


def test_a_forced_promotion_says_what_is_lost_and_a_primary_that_comes_back_asks_first(pair: Pair) -> None:
    a, b = pair.a, pair.b
    pair.mirrored("w")
    a.write("w", 0, b"1" * 65536)
    rounds(a, "w")
    paused(a, "w")
    a.daemon.stop(signal.SIGKILL)
    with pytest.raises(Refused, match=r"cannot be reached.*--force promotes w as it was \d"):
        b.cli("promote", "w")
    promoted = json.loads(b.cli("promote", "w", "--force", "--json"))
    assert promoted["lost_s"] > 0
    assert promoted["epoch"] == 2
    b.write("w", 0, b"2" * 65536)
    a.daemon.start()                                # nothing was written to it since: it follows by itself
    assert a.mirror("w")["role"] == "replica"
    assert a.write("w", 0, bytes(4096)).asc == 0x2700
    until(lambda: a.read("w", 0, 4096) == b"2" * 4096)
    b.cli("demote", "w")
    a.cli("promote", "w")


@pytest.mark.parametrize(("asked", "keep"), [("a", "there"), ("a", "here"), ("b", "there")])
def test_a_primary_that_was_superseded_is_not_served_and_gives_way_or_is_kept(pair: Pair, asked: str, keep: str) -> None:
    a, b = pair.a, pair.b
    pair.mirrored("w")
    lost_primary(pair, "w")
    a.daemon.start()
    assert a.mirror("w")["role"] == "superseded"
    with a.disk("w") as (initiator, lun):
        assert itself(lambda: initiator.read(lun, 8, 8)).asc == 0x040B      # standby: nobody takes what is gone for what is
    with pytest.raises(Refused) as refused:
        a.cli("mirror", "ls", "--json")
    assert refused.value.status == 1
    with pytest.raises(Refused, match="demote it there"):
        a.cli("promote", "w", "--force")
    assert until(lambda: b.mirror("w")["state"] == "diverged")
    assert b.write("w", 16384, b"c" * 4096).status == GOOD      # it goes on
    loser, winner = (a, b) if (asked, keep) == ("a", "there") else (b, a)
    until(lambda: not loser.daemon.stats()["sessions"])
    resolved = json.loads(getattr(pair, asked).cli("mirror", "resolve", "w", "--keep", keep, "--json"))
    assert (loser.read(resolved["safety"], 4096, 8192) == b"a" * 4096 + bytes(4096)) == (loser is a)
    assert (loser.read(resolved["safety"], 4096, 8192) == bytes(4096) + b"b" * 4096) == (loser is b)
    a.cli("mirror", "resume", "w")
    rounds(winner, "w")
    assert loser.mirror("w")["role"] == "replica"
    assert winner.read("w", 4096, 4096) == (b"a" * 4096 if winner is a else bytes(4096))
    assert a.sha256("w") == b.sha256("w")


def test_two_primaries_part_and_both_go_on(pair: Pair) -> None:
    a, b = pair.a, pair.b
    pair.mirrored("w")
    lost_primary(pair, "w")
    assert b.daemon.stop() == 0
    a.daemon.start()                                # its peer does not answer: it serves what it served
    assert a.write("w", 0, b"A" * 4096).status == GOOD
    b.daemon.start()
    a.cli("mirror", "resume", "w")
    for side in (a, b):
        until(lambda side=side: side.mirror("w")["state"] == "diverged")    # type: ignore[misc]
        assert side.write("w", 8192, side.name.encode() * 4096).status == GOOD
    with pytest.raises(Refused, match="in use"), b.disk("w"):
        a.cli("mirror", "resolve", "w", "--keep", "here")
    assert b.mirror("w")["role"] == "primary"       # as it was
    until(lambda: not b.daemon.stats()["sessions"])
    a.cli("mirror", "resolve", "w", "--keep", "here")
    rounds(a, "w")
    assert a.sha256("w") == b.sha256("w")
    assert b.read("w", 8192, 4096) == b"a" * 4096


def test_what_happens_to_a_volume_between_rounds(pair: Pair) -> None:
    a, b = pair.a, pair.b
    source = random.Random(3)
    pair.mirrored("w")
    a.cli("snapshot", "w@old")
    a.write("w", 1 * MIB, source.randbytes(MIB))
    rounds(a, "w")
    a.cli("revert", "w@old")
    a.cli("resize", "w", "16M")
    a.write("w", 15 * MIB, source.randbytes(65536))
    a.cli("rename", "w", "x")
    b.cli("rename", "w", "y")
    rounds(a, "x")
    assert a.sha256("x") == b.sha256("y")
    assert b.mirror("y")["role"] == "replica"
    a.cli("resize", "x", "8M", "--force")
    rounds(a, "x")
    assert a.sha256("x") == b.sha256("y")


def held(side: Side, name: str) -> list[str]:
    """A volume's common snapshots, by name."""
    return sorted(each for each, row in side.ls().items() if each.startswith(f"{name}@mirror-") and row["holds"])


def test_a_common_snapshot_that_was_let_go_of_by_hand(pair: Pair) -> None:
    a, b = pair.a, pair.b
    pair.mirrored("x")
    rounds(a, "x")
    paused(a, "x")
    _, newer = held(a, "x")
    with pytest.raises(Refused, match="held by mirror:b"):
        a.cli("delete", newer, "--force")
    a.cli("release", newer, "mirror:b")
    a.cli("delete", newer)
    a.write("x", MIB, b"later" * 4096)
    a.cli("mirror", "resume", "x")                  # what changed since the older one comes, and the replica follows
    rounds(a, "x")
    assert a.sha256("x") == b.sha256("x")
    assert b.read("x", MIB, 4096) == (b"later" * 4096)[:4096]
    a.cli("mirror", "rm", "x")
    b.cli("mirror", "rm", "x")
    assert b.write("x", 0, bytes(4096)).status == GOOD          # a volume like others
    assert not held(a, "x")
    assert not held(b, "x")


def test_without_anything_common_only_what_differs_is_sent(pair: Pair) -> None:
    a, b = pair.a, pair.b
    data = random.Random(6).randbytes(12 * MIB)
    for side in (a, b):
        side.cli("create", "q", "--size", "16M")
        for at in range(0, len(data), 4 * MIB):
            side.write("q", at, data[at:at + 4 * MIB])
    b.cli("resize", "q", "20M")                         # another size, other blocks, and more than A has
    for at, text in ((5 * MIB + 4096, b"b" * 4096), (13 * MIB, b"more" * 4096)):
        b.write("q", at, text)
    a.write("q", 9 * MIB, bytes(65536))
    before = b.sha256("q")
    a.cli("mirror", "add", "q", "--to", "b", "--rpo", "300ms")
    until(lambda: "there is q already" in str(a.mirror("q")["problem"]))
    a.cli("mirror", "rm", "q")
    a.cli("mirror", "add", "q", "--to", "b", "--rpo", "300ms", "--resync")
    rounds(a, "q")
    assert a.mirror("q")["sent_bytes"] < 512 * 1024
    assert a.sha256("q") == b.sha256("q")
    (kept,) = (name for name in b.ls() if name.startswith("q@before-resync-"))
    assert b.sha256(kept) == before
    a.cli("demote", "q")
    b.cli("promote", "q")
    b.write("q", 0, b"back" * 1024)
    rounds(b, "q")
    assert a.sha256("q") == b.sha256("q")


def test_a_standby_is_the_same_disk_by_another_path(pair: Pair) -> None:
    a, b = pair.a, pair.b
    pair.mirrored("s", options=("--standby",))
    a.write("s", 0, b"s" * 4096)
    until(lambda: b.ls()["s"].get("url"))               # connected, for whom all is open to
    with a.disk("s") as (one, lun), b.disk("s") as (two, there):
        for page in (0x80, 0x83):
            assert one.inquiry(lun, page)[4:20] == two.inquiry(there, page)[4:20]
        assert (port_groups(one, lun), port_groups(two, there)) == ({1: 0}, {2: 2})
        assert itself(lambda: two.read(there, 0, 8)).asc == 0x040B
        for initiator, number in ((one, lun), (two, there)):
            modes = itself(partial(initiator.command, number, b"\x1a\0\x3f\0\xff\0", read=255))
            assert not modes.data[2] & 0x80             # not write-protected: hosts keep a path as they find it
        set_groups = partial(two.command, there, b"\xa4\x0a" + (8).to_bytes(8) + bytes(2), write=bytes(4) + b"\0\0\0\2")
        assert itself(set_groups).asc == 0x670A
        a.cli("demote", "s")
        b.cli("promote", "s")
        assert 0x2A06 in one.settle(lun)
        assert 0x2A06 in two.settle(there)
        assert (port_groups(one, lun), port_groups(two, there)) == ({1: 2}, {2: 0})
        assert itself(lambda: one.read(lun, 0, 8)).asc == 0x040B
        assert itself(lambda: two.read(there, 0, 8)).data == b"s" * 4096
        assert two.write(there, 8, b"t" * 4096).status == GOOD
    rounds(b, "s")
    b.cli("demote", "s")
    a.cli("promote", "s")
    assert a.read("s", 4096, 4096) == b"t" * 4096


def itself(ask: Callable[[], Answer]) -> Answer:
    """The answer, whatever the path has to tell before: each snapshot that a round publishes is a unit attention there."""
    while (answer := ask()).key == 6:
        pass
    return answer


def port_groups(initiator: Initiator, lun: int) -> dict[int, int]:
    """REPORT TARGET PORT GROUPS: group -> access state."""
    data = itself(lambda: initiator.command(lun, bytes.fromhex("a30a00000000000004000000"), read=1024)).data
    return {int.from_bytes(data[at + 2:at + 4]): data[at] & 15 for at in range(4, len(data), 12)}


def test_who_is_no_peer_or_may_not_gets_nowhere(pair: Pair) -> None:
    try:
        refused_peers(pair)
    finally:
        pair.introduce()


def refused_peers(pair: Pair) -> None:
    a, b = pair.a, pair.b
    with socket.create_connection(("127.0.0.1", b.peer_port)) as plain:
        plain.sendall(b'\x10\0\0\0{"do": "hello"}')
        plain.settimeout(10)
        with contextlib.suppress(ConnectionResetError):
            assert b"hello" not in plain.recv(4096)     # an alert, and the end, which may come first
    forged = make_credentials("a")                  # says that it is A, and has another key
    with pytest.raises(LunetteError, match=r"lost|hung up|TLS"):
        asyncio.run(ask_as(forged, b))
    pem = b.certificate().read_text()
    b.cli("peer", "certificate", "--new")
    a.cli("create", "n", "--size", "4M")
    with pytest.raises(Refused, match="another certificate than the peer"):
        a.cli("mirror", "add", "n", "--to", "b", "--rpo", "300ms")
    assert b.certificate().read_text() != pem
    a.add_peer(b, "send", "receive:v,w")
    with pytest.raises(Refused, match="peer b may not receive n"):
        a.cli("mirror", "add", "n", "--to", "b", "--rpo", "300ms")
    a.add_peer(b, "send", "receive")
    b.add_peer(a, "send:v*")
    a.cli("mirror", "add", "n", "--to", "b", "--rpo", "300ms")
    until(lambda: "may not send n" in str(a.mirror("n")["problem"]))
    assert "n" not in b.ls()
    b.add_peer(a, "send", "receive")
    until(lambda: a.mirror("n")["rounds"])
    for words in (("peer", "rm", "b"), ("peer", "add", "c", "--address", "nowhere", "--certificate", "/etc/hostname",
                                        "--allow", "send")):
        with pytest.raises(Refused):
            a.cli(*words)


async def ask_as(credentials: Credentials, side: Side) -> None:
    link = await open_link("127.0.0.1", side.peer_port, credentials, side.fingerprint())
    try:
        await link.send({"do": "hello", "protocol": 1, "pool_uuid": "0" * 32, "groups": []})
        if await link.receive() is None:
            raise LunetteError("unreachable", "it hung up")
    finally:
        await link.close()
