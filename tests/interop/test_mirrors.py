"""Volumes mirrored between two daemons, libiscsi as the judge of what initiators see (docs/protection.md)."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.support.libiscsi import GOOD
from tests.support.pair import Pair, Refused, until
from tests.support.places import pool_directory

MIB = 1 << 20
pytestmark = pytest.mark.needs("libiscsi")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with pool_directory(tmp_path_factory.mktemp("mirrors")) as place:
        made = Pair(place).start()
        yield made
        made.close()


def test_a_replica_follows_read_only(pair: Pair) -> None:
    a, b = pair.a, pair.b
    source = random.Random(1)
    a.cli("create", "v", "--size", "24M")
    a.write("v", 0, source.randbytes(2 * MIB))
    a.cli("mirror", "add", "v", "--to", "b", "--rpo", "1s")
    until(lambda: a.mirror("v")["rounds"] >= 2)
    a.write("v", 9 * MIB, source.randbytes(MIB))
    rounds = a.mirror("v")["rounds"]
    until(lambda: a.mirror("v")["rounds"] >= rounds + 2)
    assert a.sha256("v") == b.sha256("v")
    answer = b.write("v", 0, bytes(4096))
    assert (answer.status, answer.key, answer.asc) == (2, 7, 0x2700)
    for side in (a, b):
        names = [name for name, row in side.daemon.ls().items() if name.startswith("v@mirror-") and row["holds"]]
        assert len(names) >= 2
        assert side.mirror("v")["role"] == {"a": "primary", "b": "replica"}[side.name]
    b.cli("snapshot", "v@own")
    for words in (("revert", "v@own"), ("resize", "v", "48M")):
        with pytest.raises(Refused, match="replica of a mirror"):
            b.cli(*words)
    with pytest.raises(Refused, match="held by mirror:a"):
        b.cli("delete", "v", "--force")


def test_roles_change_without_loss_and_back(pair: Pair) -> None:
    a, b = pair.a, pair.b
    source = random.Random(2)
    with pytest.raises(Refused, match="demote it there"):
        b.cli("promote", "v", "--force")
    a.write("v", 4 * MIB, source.randbytes(MIB))
    digest = a.sha256("v")
    a.cli("demote", "v")
    assert a.write("v", 0, bytes(4096)).asc == 0x2700
    assert b.sha256("v") == digest
    b.cli("promote", "v")
    assert b.write("v", 6 * MIB, source.randbytes(MIB)).status == GOOD
    until(lambda: b.mirror("v")["rounds"] >= 2)
    assert a.mirror("v")["epoch"] == b.mirror("v")["epoch"] == 2
    assert a.sha256("v") == b.sha256("v") != digest
    sent = b.mirror("v")["sent_bytes"]
    assert sent < 3 * MIB                           # by difference only
    b.cli("demote", "v")
    a.cli("promote", "v")
    assert a.write("v", 6 * MIB, source.randbytes(MIB)).status == GOOD
    until(lambda: a.mirror("v")["rounds"] >= 2)
    until(lambda: a.sha256("v") == b.sha256("v"))
