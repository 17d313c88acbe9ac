"""Lineages, and what a peer may: decided from values alone (target/volumes/mirrors.py, peers.py)."""

from __future__ import annotations

import pytest

from target.errors import LunetteError
from target.volumes.links import fingerprint
from target.volumes.mirrors import Common, Mirror, Reign, compare, pack_lineage, unpack_lineage
from target.volumes.peers import Peer, make_credentials, parse_allowed, parse_certificate, pem_of

FIRST, SECOND, OTHER = Reign("1", "a", ""), Reign("2", "b", "g"), Reign("3", "a", "g")


@pytest.mark.parametrize(("ours", "theirs", "relation"), [
    ([FIRST], [FIRST], "same"), ([FIRST], [FIRST, SECOND], "behind"), ([FIRST, SECOND], [FIRST], "ahead"),
    ([FIRST, SECOND], [FIRST, OTHER], "apart"), ([SECOND], [FIRST], "apart"),
])
def test_a_lineage_is_the_beginning_of_another_or_apart(ours: list[Reign], theirs: list[Reign], relation: str) -> None:
    assert compare(ours, theirs) == relation


def test_a_promotion_begins_a_reign_at_the_newest_common_snapshot() -> None:
    mirror = Mirror(1, "v", "b", "replica", (FIRST,), 30.0, complete=True, resync=True)
    for number in range(4):
        mirror = mirror.published(Common(str(number), number))
    assert [each.guid for each in mirror.common] == ["2", "3"]
    assert not mirror.resync
    promoted = mirror.promoted("pool")
    assert (promoted.role, promoted.complete, promoted.lineage[-1].base) == ("primary", False, "3")
    assert compare(mirror.lineage, promoted.lineage) == "behind"
    assert compare(mirror.promoted("pool").lineage, promoted.lineage) == "apart"    # each promotion is one of its own


@pytest.mark.parametrize("value", [None, [], [{}], [{"id": "1"}], [{"id": 1, "pool_uuid": "a", "base": ""}], 7,
                                   [{"id": "1" * 65, "pool_uuid": "a", "base": ""}], pack_lineage([FIRST] * 1001)])
def test_what_is_no_lineage_is_refused(value: object) -> None:
    with pytest.raises(LunetteError, match="makes no sense"):
        unpack_lineage(value)


def test_a_peer_may_what_its_patterns_say() -> None:
    peer = Peer("b", "h:1", "f", **parse_allowed(["send:db*,web", "receive"]))
    assert [peer.may("send", name) for name in ("db1", "web", "web2", "x")] == [True, True, False, False]
    assert peer.may("receive", "x")
    assert not Peer("b", "h:1", "f", **parse_allowed(["receive"])).may("send", "x")
    for word in ("take", "send:", "send,receive"):
        with pytest.raises(LunetteError, match="no right"):
            parse_allowed([word])


def test_a_certificate_is_read_as_it_was_printed() -> None:
    made = [make_credentials("p") for _ in range(2)]
    for each in made:
        assert parse_certificate(pem_of(each.certificate)) == each.certificate
        assert "key" not in repr(each)
    assert fingerprint(made[0].certificate) != fingerprint(made[1].certificate)
    pem = pem_of(made[0].certificate)
    short = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"
    for text in ("", "nothing", pem + pem, pem.replace("M", "!", 1), short):
        with pytest.raises(LunetteError, match="not one certificate"):
            parse_certificate(text)
