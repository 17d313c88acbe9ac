"""What the first visitor of the API makes the daemon load, and what not."""

import asyncio
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from target.client import Client
from target.errors import LunetteError
from target.models import checking
from target.models.checking import check, read_json
from target.models.configuration import ConfigurationImport
from target.models.objects import Create, Revert, Set, Snapshot
from target.server.api import loading
from target.server.api.listener import Doorbell
from target.sockets import listen_unix

LOADED = """
import asyncio, ssl, sys
from target.server.api.loading import load_http
create = ssl.create_default_context
asyncio.run(load_http())
from aiohttp import connector
assert ssl.create_default_context is create
print(connector._SSL_CONTEXT_VERIFIED.cert_store_stats()["x509"], "target.server.api.openapi" in sys.modules)
"""


def test_http_is_loaded_without_certificates_of_authorities() -> None:
    assert subprocess.run([sys.executable, "-c", LOADED], check=True, capture_output=True, text=True).stdout == "0 False\n"


async def test_what_breaks_in_the_import_is_told_to_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ImportError("there is no aiohttp")

    monkeypatch.setattr(loading, "_no_authorities", broken)
    with pytest.raises(ImportError, match="no aiohttp"):
        await asyncio.wait_for(loading.load_http(), 20)


async def test_who_comes_while_it_is_loaded_and_the_daemon_stops_is_refused(tmp_path: Path) -> None:
    """And does not wait for an answer from a socket that nobody looks at."""
    rung = asyncio.Event()

    async def answer(_: socket.socket) -> None:
        rung.set()
        await asyncio.Event().wait()

    path = str(tmp_path / "s")
    door = Doorbell(listen_unix(path, others="", remedy=""), answer)
    with socket.socket(socket.AF_UNIX) as visitor:
        visitor.connect(path)
        await rung.wait()
        await door.close()
        visitor.settimeout(60)
        with pytest.raises(ConnectionResetError):
            visitor.recv(1)


async def test_who_says_nothing_is_unreachable_for_who_has_no_patience(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with listen_unix(path, others="", remedy=""), pytest.raises(LunetteError) as error:
        await asyncio.to_thread(Client(path, 0.05).get, "/v1/pool")
    assert error.value.code == "unreachable"


@pytest.mark.parametrize(("model", "document", "said"), [
    (Create, {"name": "a\n", "size_bytes": 4096}, "'a\\n' is not a name"),
    (Create, {"name": "a", "size_bytes": True}, "size_bytes: this has to be a whole number, not true or false"),
    (Create, {"name": "a", "size_bytes": 1 << 70}, "is not a size"),
    (Create, {"name": "a", "size_bytes": float("nan")}, "size_bytes: this has to be a whole number"),
    (Create, {"name": "a", "size_bytes": 1, "block_bytes": 1000}, "1000 is none of 512, 4096"),
    (ConfigurationImport, {"configuration": {"format": "lunette-configuration", "version": 9, "pool": "p"}},
     "configuration.version: 9 is none of 1"),
    (Create, {"name": "a", "size_bytes": 1, "labels": {"k": 5}}, "labels"),
    (Create, {"name": "a", "size_bytes": 1, "labels": {"k": "\ud800"}}, "no JSON"),
    (Create, {"name": "a", "size_bytes": 1, "frob": 1}, "there is no argument 'frob'"),
    (Create, {"name": "a"}, "size_bytes is missing"),
    (Create, {"name": [[]] * 3, "size_bytes": 1}, "name: this has to be a string, not a list"),
    (Create, [], "the document: this has to be an object, not a list"),
    (Snapshot, {"names": ["a@b", "c"]}, "names: 'c' is not a snapshot's name"),
    (Snapshot, {"names": []}, "names"),
    (Revert, {"name": "a@b", "safety": "x" * 200}, "a label has at most 126 characters, not 200"),
    (Set, {"name": "a", "burst_seconds": 5000}, "burst_seconds: 5000 is not a burst"),
])
def test_a_document_of_another_form_is_refused_in_one_line(model: type, document: object, said: str) -> None:
    with pytest.raises(LunetteError, match=r"^[^\n]*$") as refused:
        check(model, document)
    assert said in str(refused.value)
    assert refused.value.code == "invalid"


def test_whole_numbers_may_be_written_with_a_point() -> None:
    assert check(Create, {"name": "a", "size_bytes": 4096.0}) == Create(name="a", size_bytes=4096)
    assert check(Set, {"name": "a", "burst_seconds": 5}).burst_seconds == 5.0


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": "\\ud800"}', '{"a": Infinity}', "[" * 100_000, '{"a"}'])
def test_what_is_nearly_json_is_none(text: str) -> None:
    with pytest.raises((ValueError, RecursionError)):
        read_json(text)


@pytest.mark.parametrize(("model", "plain"), [(Snapshot, True), (Create, True), (ConfigurationImport, False)])
def test_models_without_models_in_them_are_taken_as_they_are_read(model: type, plain: bool) -> None:
    """A form is annotated to nearly every field, and is no model: thousands of snapshots a second walk through no value."""
    assert checking._decoder(model)[2] is plain


def test_a_row_of_a_batch_may_hold_what_is_no_unicode() -> None:
    assert json.loads(checking.json_text({"path": "a\udc80"})) == {"path": "a\udc80"}
    assert checking.json_text({"line": 1, "result": [{"name": "v@s"}]}) == b'{"line":1,"result":[{"name":"v@s"}]}'


WHAT_IS_LOADED = """
import asyncio, json, sys
import click
from target.cli import cli
cli.get_command(click.Context(cli), "serve")
import target.server.daemon

def libraries():
    roots = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names) - {"target", "core"}
    return sorted(name for name in roots if not name.startswith("_") and name != "cython_runtime")

def ours():
    return sum(name.partition(".")[0] in ("target", "core") for name in sys.modules)

started = libraries(), ours()
from target.server.api.loading import load_http
from target.models.checking import check
from target.models.objects import Create
asyncio.run(load_http())
check(Create, {"name": "v", "size_bytes": 4096})
print(json.dumps([*started, libraries(), ours()]))
"""
OURS = 340      # modules of ours that a start loads: 295, and 15 % for those to come


def test_a_start_and_a_first_command_load_no_library_that_they_do_not_need() -> None:
    """What is loaded stays in memory: tables, metrics, models' descriptions, certificates and stores wait."""
    done = subprocess.run([sys.executable, "-c", WHAT_IS_LOADED], check=True, capture_output=True, text=True)
    started, started_ours, asked, asked_ours = json.loads(done.stdout)
    wait = {"rich", "prometheus_client", "pydantic", "cryptography", "obstore", "pyroute2"}
    assert not (wait | {"aiohttp", "msgspec"}) & set(started)
    assert {"aiohttp", "msgspec"} <= set(asked)
    assert not wait & set(asked)
    assert started_ours <= OURS
    assert asked_ours <= started_ours + 30
