"""Keys and secrets: the wrong one opens nothing, and none is ever shown."""

from __future__ import annotations

import logging
import random
from pathlib import Path

import pytest

from target.errors import LunetteError
from target.repository.format import CONFIG, SNAPSHOTS, Malformed
from target.repository.repository import Repository
from target.repository.sealing import AesSealer, make_key_file, read_key_file
from target.repository.store import Store, check_url
from tests.repository.conftest import Lab


def test_a_key_file_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "key"
    make_key_file(str(path))
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(read_key_file(str(path))) == 32
    with pytest.raises(LunetteError, match="never overwritten"):
        make_key_file(str(path))
    for contents in (b"", b"secret words", b"lunette-repository-key-1:AAAA\n", b"\xff" * 100):
        path.write_bytes(contents)
        with pytest.raises(LunetteError, match="is no key file") as refused:
            read_key_file(str(path))
        assert "secret" not in str(refused.value)
    with pytest.raises(LunetteError, match="No such file"):
        read_key_file(str(tmp_path / "none"))


def test_the_wrong_key_opens_nothing(tmp_path: Path) -> None:
    right, wrong = str(tmp_path / "right"), str(tmp_path / "wrong")
    make_key_file(right)
    make_key_file(wrong)
    store = Store(str(tmp_path / "r"), make=True)
    Repository.open(store, "r", right, make=True)
    assert Repository.open(store, "r", right).sealer.cipher == "aes-256-gcm"
    with pytest.raises(LunetteError, match="is not the key of repository r"):
        Repository.open(store, "r", wrong)
    with pytest.raises(LunetteError, match="it needs its key file"):
        Repository.open(store, "r", None)
    sealed = AesSealer(read_key_file(right), "id").seal("pages", b"data")
    assert AesSealer(read_key_file(right), "id").open("pages", sealed) == b"data"
    for sealer, kind in ((AesSealer(read_key_file(wrong), "id"), "pages"), (AesSealer(read_key_file(right), "other"), "pages"),
                         (AesSealer(read_key_file(right), "id"), "packs")):
        with pytest.raises(Malformed):
            sealer.open(kind, sealed)


def test_only_an_empty_place_becomes_a_repository(tmp_path: Path) -> None:
    with pytest.raises(LunetteError, match="there is no directory"):
        Store(str(tmp_path / "none"))
    (tmp_path / "file").write_text("mine")
    store = Store(str(tmp_path), make=True)
    with pytest.raises(LunetteError, match="is not empty, and no repository"):
        Repository.open(store, "r", None, make=True)
    with pytest.raises(LunetteError, match="holds no repository"):
        Repository.open(store, "r", None)
    for raw in (b"", b"[]", b"{}", b'{"format": 1}'):
        (tmp_path / CONFIG).write_bytes(raw)
        with pytest.raises(LunetteError, match="holds no repository that can be read"):
            Repository.open(store, "r", None)
    (tmp_path / CONFIG).write_bytes(b'{"format": 2, "id": "x", "cipher": null}')
    with pytest.raises(LunetteError, match="newer version"):
        Repository.open(store, "r", None)


@pytest.mark.parametrize(("url", "kept"), [
    ("/srv/x", "/srv/x"), ("file:///srv/x", "/srv/x"), ("/srv/../x", "/x"), ("s3://b/p?endpoint=http://h:1&region=r", None),
    ("s3://key:secret@b/p", "holds no credentials"), ("s3:///p", "a repository in S3 is"), ("ftp://h/x", "not ftp://"),
    ("s3://b/p?secret_access_key=hush", "a repository in S3 is"),
])
def test_urls(url: str, kept: str | None) -> None:
    if kept is None or kept.startswith("/"):
        assert check_url(url) == (kept or url)
    else:
        with pytest.raises(LunetteError, match=kept) as refused:
            check_url(url)
        assert "hush" not in str(refused.value)
        assert "secret@" not in str(refused.value)


async def test_nothing_readable_is_in_an_encrypted_repository(
        lab: Lab, source: random.Random, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    repository = lab.repository(encrypted=True)
    key = (lab.directory / "r.key").read_text().strip()
    await lab.create("volume-of-note")
    await lab.call("write", object_id=lab.id("volume-of-note"), offset_bytes=0, data=b"a secret sentence" * 4096)
    await lab.snapshot("volume-of-note@a")
    await lab.back_up(repository, "volume-of-note@a")
    raw = b"".join(path.read_bytes() for path in (lab.directory / "r").rglob("*") if path.is_file())
    assert b"sentence" not in raw
    assert b"of-note" not in raw
    assert key.partition(":")[2].encode() not in raw
    assert key.partition(":")[2] not in caplog.text
    (where,) = repository.store.list(SNAPSHOTS)
    sealed = repository.store.get(where)
    assert sealed is not None
    repository.store.put(where, sealed[:-1] + bytes([sealed[-1] ^ 1]))
    with pytest.raises(LunetteError, match="does not open with this key"):
        repository.manifests()
