"""The catalog: names, hosts, connections, LUN numbers, and that they survive a reopening (target/volumes/catalog.py)."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator

import pytest

from target.errors import LunetteError
from target.volumes.catalog import (
    Catalog,
    Chap,
    Host,
    check_initiator,
    check_snapshot_name,
    check_volume_name,
    parse_address,
    read_labels,
    write_labels,
)
from target.volumes.gateway import AsyncPool
from target.volumes.luns import EVERYONE
from tests.support.fake_pool import FakePool

A, B = "iqn.2026-01.test:a", "iqn.2026-01.test:b"


@pytest.fixture
async def pool() -> AsyncIterator[AsyncPool]:
    made = AsyncPool(FakePool())
    made.attach()
    yield made
    made.detach()
    made.pool.close()


@pytest.mark.parametrize(("address", "place"), [
    ("10.0.0.1", ("10.0.0.1", 3260)), ("10.0.0.1:13260,2", ("10.0.0.1", 13260)), ("San.Example.org,1", ("san.example.org", 3260)),
    ("[::1]", ("::1", 3260)), ("[2001:DB8:0::1]:860", ("2001:db8::1", 860)), ("[::ffff:10.0.0.1]:1,7", ("10.0.0.1", 1))])
def test_one_address_has_one_form(address: str, place: tuple[str, int]) -> None:
    assert parse_address(address) == place


async def volume(pool: AsyncPool, name: str) -> int:
    object_id: int = await pool.call("create", name=name, size_bytes=1 << 20)
    return object_id


@pytest.mark.parametrize("name", ["", "-a", "a@b", "a b", "a/b", "x" * 129, "ä", "a\n"])
def test_bad_volume_names_are_refused(name: str) -> None:
    with pytest.raises(LunetteError) as refused:
        check_volume_name(name)
    assert refused.value.code == "invalid"


def test_snapshot_names_split_at_the_first_at() -> None:
    assert check_snapshot_name("v@s-1") == ("v", "s-1")
    for bad in ("v", "v@", "@s", "v@a@b"):
        with pytest.raises(LunetteError):
            check_snapshot_name(bad)


@pytest.mark.parametrize("volume", [1, 127, 128])
def test_a_label_may_be_as_long_whatever_its_volume_is_called(volume: int) -> None:
    name = "v" * volume
    assert check_snapshot_name(f"{name}@{'s' * 126}") == (name, "s" * 126)
    with pytest.raises(LunetteError, match="a label has at most 126 characters, not 127"):
        check_snapshot_name(f"{name}@{'s' * 127}")


@pytest.mark.parametrize("name", ["iqn.2026-01.test:a b", "host", "iqn.26-1.x:y", "iqn.2026-13.x:y", "iqn.2026-01.a..b:y",
                                  "eui.12", "", "iqn.2026-01.test:\x01", "iqn.2026-01.test:" + "x" * 300,
                                  "iqn.2026-01.test:" + "ä" * 150, "naa.12345678", 5])
def test_bad_initiator_names_are_refused(name: str) -> None:
    with pytest.raises(LunetteError):
        check_initiator(name)


@pytest.mark.parametrize("name", ["iqn.1991-05.com.microsoft:Host_1", "iqn.2004-10.com.example", "EUI.02004567A425678D",
                                  "naa.62004567BA64678D0123456789ABCDEF"])
def test_initiator_names_are_kept_in_lower_case(name: str) -> None:
    assert check_initiator(name) == name.lower()


async def test_the_order_of_free_luns_outlasts_a_restart(pool: AsyncPool) -> None:
    catalog = Catalog(pool)
    infos = [info for info in [pool.info(await volume(pool, f"v{i}")) for i in range(260)] if info is not None]
    host = await catalog.save_host(Host(0, "h", (A,)))
    assert [(await catalog.connect(info)).lun for info in infos[:256]] == list(range(256))
    assert (await catalog.connect(infos[5], host.id)).lun == 256        # the others are everyone's
    for number in (40, 7):
        await catalog.disconnect(catalog.connections_of(infos[number].id))
    await pool.call("delete", object_id=infos[80].id)
    await catalog.forget_object(infos[80].id)
    await pool.call("delete", object_id=infos[90].id)                   # and a crash before it is forgotten
    reopened = Catalog(pool)
    assert {each.lun for each in reopened.connections()} == set(range(257)) - {7, 40, 80, 90}
    assert [(await reopened.connect(info)).lun for info in infos[256:259]] == [40, 7, 80]
    again = Catalog(pool)
    assert [(await again.connect(info)).lun for info in (infos[259], infos[7], infos[40])] == [90, 257, 258]
    await again.disconnect(again.connections(host.id))
    await again.delete_host(host)
    assert not [key for key in pool.kv() if key.startswith(("freed_lun/", "next_lun/"))]


async def test_a_pool_that_gave_all_numbers_away_before_begins_again_at_0(pool: AsyncPool) -> None:
    await pool.call("kv", changes={"next_lun/0": b"300"})       # as pools of earlier versions keep it
    info = pool.info(await volume(pool, "v"))
    assert info is not None
    assert (await Catalog(pool).connect(info)).lun == 0


async def test_a_taken_lun_is_refused_and_nothing_changes(pool: AsyncPool) -> None:
    catalog = Catalog(pool)
    first, second = pool.info(await volume(pool, "a")), pool.info(await volume(pool, "b"))
    assert first is not None
    assert second is not None
    await catalog.connect(first, lun=7)
    with pytest.raises(LunetteError) as refused:
        await catalog.connect(second, lun=7)
    assert refused.value.code == "exists"
    with pytest.raises(LunetteError):
        await catalog.connect(second, lun=16384)
    assert [each.object_id for each in catalog.connections()] == [first.id]


async def test_without_open_access_an_initiator_sees_its_hosts_luns_only(pool: AsyncPool) -> None:
    catalog = Catalog(pool)
    mine, other = pool.info(await volume(pool, "a")), pool.info(await volume(pool, "b"))
    assert mine is not None
    assert other is not None
    host = await catalog.save_host(Host(0, "h", (A,)))
    await catalog.connect(other)
    await catalog.connect(mine, host.id, 5)
    assert catalog.lun_map(catalog.host_of(A), open_access=False) == {5: mine.id}
    assert catalog.lun_map(catalog.host_of(B), open_access=False) == {}
    assert catalog.lun_map(catalog.host_of(B), open_access=True) == {0: other.id}


async def test_an_initiator_belongs_to_one_host(pool: AsyncPool) -> None:
    catalog = Catalog(pool)
    await catalog.save_host(Host(0, "one", (A.upper(),)))
    with pytest.raises(LunetteError) as refused:
        await catalog.save_host(Host(0, "two", (A,)))
    assert refused.value.code == "exists"
    assert [host.name for host in catalog.hosts()] == ["one"]


async def test_an_initiator_in_another_unicode_form_is_the_same(pool: AsyncPool) -> None:
    catalog = Catalog(pool)
    made = await catalog.save_host(Host(0, "one", ("iqn.2026-01.test:\uff28o\u00adst", "iqn.2026-01.test:HOST")))
    assert made.initiators == ("iqn.2026-01.test:host",)
    assert catalog.host_of("iqn.2026-01.test:host") == made
    with pytest.raises(LunetteError) as refused:
        await catalog.save_host(Host(0, "two", ("iqn.2026-01.test:h\u24deST",)))
    assert refused.value.code == "exists"
    with pytest.raises(LunetteError, match="U\\+3002") as refused:
        await catalog.save_host(Host(0, "two", ("iqn.2026-01.test:a\u3002b",)))
    assert str(refused.value).isascii()


async def test_names_of_an_older_version_are_normalized_when_loaded(pool: AsyncPool, caplog: pytest.LogCaptureFixture) -> None:
    secret = {"name": "u", "secret": base64.b64encode(b"a secret of 1").decode(), "mutual_name": "", "mutual_secret": ""}
    stored = {"host/1": {"name": "plain", "initiators": ["iqn.2026-01.test:\ufb01", B]},
              "host/2": {"name": "asks", "initiators": ["iqn.2026-01.test:fi"], "chap": secret},
              "host/3": {"name": "late", "initiators": ["iqn.2026-01.test:\uff42", "iqn.2026-01.test:a b", "iqn.2026-01.test:c"]}}
    await pool.call("kv", changes={key: json.dumps(value).encode() for key, value in stored.items()})
    catalog = Catalog(pool)
    assert {host.name: host.initiators for host in catalog.hosts()} == {
        "plain": (B,), "asks": ("iqn.2026-01.test:fi",), "late": ("iqn.2026-01.test:c",)}
    assert catalog.host_of("iqn.2026-01.test:fi").chap is not None  # type: ignore[union-attr]
    said = caplog.text
    assert "host plain: 'iqn.2026-01.test:\\ufb01' is a form of a name of host asks" in said
    assert "host late: 'iqn.2026-01.test:\\uff42' is a form of a name of host plain" in said
    assert "host late: 'iqn.2026-01.test:a b' cannot log in" in said


async def test_hosts_and_their_secrets_survive_and_are_never_shown(pool: AsyncPool) -> None:
    catalog = Catalog(pool)
    await catalog.save_host(Host(0, "h", (A,), Chap("user", b"secret-secret", "us", b"other-secret!")))
    again = Catalog(pool).host("h")
    assert again.chap == Chap("user", b"secret-secret", "us", b"other-secret!")
    assert b"secret" not in repr(again).encode() + repr(again.chap).encode().replace(b"mutual_secret", b"")


@pytest.mark.parametrize("chap", [Chap("u", b"short"), Chap("u", b"x" * 12, "m", b"x" * 12), Chap("", b"x" * 12)])
async def test_bad_credentials_are_refused(pool: AsyncPool, chap: Chap) -> None:
    with pytest.raises(LunetteError):
        await Catalog(pool).save_host(Host(0, "h", (A,), chap))


async def test_a_failed_write_leaves_memory_as_it_was(pool: AsyncPool) -> None:
    catalog = Catalog(pool)
    info = pool.info(await volume(pool, "v"))
    assert info is not None
    pool.pool.fail["kv"] = "no_space"
    with pytest.raises(Exception, match="full"):
        await catalog.connect(info)
    with pytest.raises(Exception, match="full"):
        await catalog.save_host(Host(0, "h", (A,)))
    assert catalog.connections() == []
    assert catalog.hosts() == []


async def test_what_a_deleted_object_leaves_goes_with_it(pool: AsyncPool) -> None:
    catalog = Catalog(pool)
    info = pool.info(await volume(pool, "v"))
    assert info is not None
    await catalog.connect(info)
    await catalog.save_unit_state(info.id, b"state")
    await pool.call("delete", object_id=info.id)
    assert Catalog(pool).connections() == []          # a crash before forget_object
    await catalog.forget_object(info.id)
    assert not [key for key in pool.kv() if key.startswith(("connection/", "unit/"))]


async def test_deleting_a_host_takes_its_connections(pool: AsyncPool) -> None:
    catalog = Catalog(pool)
    info = pool.info(await volume(pool, "v"))
    assert info is not None
    host = await catalog.save_host(Host(0, "h", (A,)))
    await catalog.connect(info, host.id)
    await catalog.connect(info, EVERYONE)
    await catalog.delete_host(host)
    assert [each.host_id for each in Catalog(pool).connections()] == [EVERYONE]


def test_labels_are_kept_up_to_their_limit() -> None:
    info = FakePool()
    labels = {"app": "db", "ü": "é"}
    token = info.start("create", name="v", size_bytes=4096, props=write_labels(labels))
    assert token
    assert read_labels(info.objects()[0]) == labels
    with pytest.raises(LunetteError) as refused:
        write_labels({"a": "x" * 200})
    assert refused.value.code == "limit"
