"""Repositories in S3: moto's server in process, and one of ours that answers 503 and 412 when it is told to."""

from __future__ import annotations

import http.server
import os
import random
import secrets
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from target.errors import LunetteError
from target.repository.collection import check, collect
from target.repository.format import PACKS, PAGES
from target.repository.repository import Repository
from target.repository.sealing import make_key_file
from target.repository.store import Store
from tests.repository.conftest import Lab

SECRET = "hush-hush-secret-access-key"


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDLUNETTE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)


@pytest.fixture
def bucket() -> Iterator[str]:
    """The URL of a repository to be, in an empty bucket."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    name = f"attic-{secrets.token_hex(4)}"      # moto's memory is the process's
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{name}", method="PUT")).close()
    yield f"s3://{name}/of/lunette?endpoint={endpoint}&region=us-east-1"
    server.stop()


async def test_backups_in_s3_go_in_any_order_and_the_rest_restores(lab: Lab, source: random.Random, bucket: str) -> None:
    key = str(lab.directory / "key")
    make_key_file(key)
    repository = Repository.open(Store(bucket, make=True), "r", key, make=True)
    await lab.create("v")
    count = 30 if os.environ.get("CRASH_FULL") else 6
    for number in range(count):
        await lab.scribble("v", source)
        await lab.snapshot(f"v@{number}")
        await lab.back_up(repository, f"v@{number}", pack_bytes=300_000)
    assert not (await lab.back_up(repository, "v@3")).stored
    manifests = repository.manifests()
    source.shuffle(manifests)
    for manifest in manifests[2:]:
        repository.forget(manifest)
        collect(repository, grace_s=0)
    assert not check(repository, data=True).damage
    await lab.check_all(repository)
    assert len(repository.manifests()) == 2


async def test_in_s3_what_is_missing_is_found_and_a_second_manifest_is_refused(
        lab: Lab, source: random.Random, bucket: str) -> None:
    repository = Repository.open(Store(bucket, make=True), "r", None, make=True)
    await lab.create("v")
    await lab.scribble("v", source)
    await lab.snapshot("v@a")
    done = await lab.back_up(repository, "v@a")
    assert not repository.save_manifest(done.manifest, over=False)
    (pack,), (page,) = repository.store.list(PACKS), repository.store.list(PAGES)
    assert repository.store.get_range(pack, 0, 1 << 30) is None
    repository.store.delete(pack)
    repository.store.delete(page)
    assert repository.store.get(pack) is None
    assert repository.store.get_range(pack, 0, 10) is None
    assert set(check(repository, data=False).damage) == {pack, page}
    assert (await lab.back_up(repository, "v@a")).mended == ["v@a"]
    assert not check(repository, data=True).damage
    await lab.check_all(repository)


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers each PUT with the next status of a list, then with 200."""

    statuses: list[int]
    seen: list[tuple[str, str]]

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append((self.path, self.headers.get("If-None-Match", "")))
        self.send_response(self.statuses.pop(0) if self.statuses else 200)
        self.send_header("ETag", '"tag"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None: ...


@pytest.fixture
def answering() -> Iterator[type[Answers]]:
    handler = type("Told", (Answers,), {"statuses": [], "seen": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    handler.url = f"s3://b/p?endpoint=http://127.0.0.1:{server.server_port}&region=us-east-1"  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield handler
    server.shutdown()
    server.server_close()


def test_503_is_asked_again_and_412_says_that_there_is_one(answering: Any) -> None:
    store = Store(answering.url)
    answering.statuses[:] = [503, 503]
    assert store.put("x", b"data")
    assert answering.seen == [("/b/p/x", "")] * 3
    answering.seen.clear()
    answering.statuses[:] = [412]
    assert not store.put("y", b"data", new=True)
    assert answering.seen == [("/b/p/y", "*")]
    answering.statuses[:] = [403]
    with pytest.raises(LunetteError) as refused:
        store.put("z", b"data")
    assert refused.value.code == "store"
    assert "cannot write z" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert SECRET not in str(refused.value)
