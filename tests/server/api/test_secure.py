"""The API over TCP: TLS, tokens and certificates, who may do and see what."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from target.config import ApiListener, Portal, ServeConfig
from target.errors import LunetteError
from target.server.api import lasting
from target.server.caller import CALLER, Identity
from target.server.daemon import Daemon
from tests.server.conftest import Control
from tests.support.certificates import Certificates
from tests.support.fake_pool import FakePool

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed (make clients)")


BROWSER = {"User-Agent": "Mozilla/5.0"}


@dataclass
class Secure(Control):
    """A control plane whose API listens on TCP, too."""

    certificates: Certificates

    async def ask(self, method: str, path: str, body: Any = None, *, token: str | None = None, certificate: str | None = None,
                  headers: dict[str, str] | None = None,
                  authority: Certificates | None = None) -> tuple[int, Any, dict[str, str]]:
        context = ssl.create_default_context(cafile=str((authority or self.certificates).ca))
        if certificate is not None:
            context.load_cert_chain(*self.certificates.client(certificate))
        given = {**({"Authorization": f"Bearer {token}"} if token else {}), **(headers or {})}
        async with (aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
                    session.request(method, f"https://127.0.0.1:{self.daemon.api.tcp_port}{path}", headers=given,
                                    json=body) as response):
            raw = await response.read()
            value = json.loads(raw) if response.content_type == "application/json" else raw.decode()
            return response.status, value, dict(response.headers)

    async def token(self, name: str, scope: str, **more: Any) -> str:
        made = await self.daemon.commands.run("token_create", {"name": name, "scope": scope, **more})
        return str(made["token"])


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
async def secure(tmp_path: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Secure]:
    pool = FakePool()
    listener = ApiListener(Portal("127.0.0.1", 0), certificates.server[0], certificates.server[1], certificates.ca)
    daemon = Daemon(ServeConfig(pool_path=tmp_path / "pool", api_path=tmp_path / "api.sock", open_access=True,
                                api_listener=listener))
    monkeypatch.setattr(daemon, "enlarge", lambda size_bytes: size_bytes)       # the pool lies in no file
    daemon.wire(pool)
    daemon.pool.attach()
    await daemon.api.start()
    yield Secure(daemon, pool, tmp_path / "api.sock", certificates)
    await daemon.api.stop()
    daemon.pool.detach()
    pool.close()


async def volumes(secure: Secure, *names: str) -> None:
    for name in names:
        await secure.daemon.commands.run("create", {"name": name, "size_bytes": 1 << 20})


async def test_nobody_gets_in_without_a_token_or_a_certificate(secure: Secure) -> None:
    good = await secure.token("t", "read")
    for bad in (None, "x", "lnt_0_0", good[:-1], good + "0", good.replace("lnt", "LNT")):
        status, body, headers = await secure.ask("GET", "/v1/objects", token=bad)
        assert (status, body["error"]["code"]) == (401, "unauthenticated")
        assert headers["WWW-Authenticate"].startswith("Bearer")
    assert (await secure.ask("GET", "/v1/objects", token=good))[0] == 200
    assert (await secure.ask("GET", "/healthz"))[:2] == (200, {"status": "ok"})
    await secure.daemon.commands.run("token_delete", {"name": "t"})
    assert (await secure.ask("GET", "/v1/objects", token=good))[0] == 401


async def test_a_token_is_good_until_it_expires(secure: Secure, monkeypatch: pytest.MonkeyPatch) -> None:
    token = await secure.token("t", "read", expires_seconds=3600)
    assert (await secure.ask("GET", "/v1/version", token=token))[0] == 200
    later = time.time() + 3601
    monkeypatch.setattr("target.server.api.tokens.time.time", lambda: later)
    assert (await secure.ask("GET", "/v1/version", token=token))[0] == 401


async def test_a_token_is_kept_as_a_hash_and_survives_a_restart(secure: Secure) -> None:
    from target.server.api.tokens import Tokens

    token = await secure.token("t", "operate", prefix="a-")
    kept = secure.pool.kv()["token/t"]
    assert token.encode() not in kept
    assert token.rpartition("_")[2].encode() not in kept
    assert Tokens(secure.daemon.pool).find(token) == Identity("token:t", "operate", "a-")
    assert token not in json.dumps([secure.daemon.api.parts.audit.entries(), secure.daemon.api.parts.events.since(
        None, CALLER.get()), secure.daemon.api.parts.tokens.rows()])


@pytest.mark.parametrize(("scope", "allowed"), [("read", 0), ("operate", 1), ("admin", 2)])
async def test_a_scope_is_what_may_be_done(secure: Secure, scope: str, allowed: int) -> None:
    token = await secure.token("t", scope)
    assert (await secure.ask("GET", "/v1/objects", token=token))[0] == 200
    statuses = [(await secure.ask("POST", "/v1/commands/create", {"name": "v", "size_bytes": 4096}, token=token))[0],
                (await secure.ask("POST", "/v1/commands/host_create", {"name": "h"}, token=token))[0]]
    assert statuses == [200 if each < allowed else 403 for each in range(2)]
    assert (await secure.ask("GET", "/v1/audit", token=token))[0] == (200 if scope == "admin" else 403)


async def test_a_prefix_is_all_that_a_token_touches_and_sees(secure: Secure) -> None:
    await volumes(secure, "a-one", "b-one")
    await secure.daemon.commands.run("snapshot", {"names": ["b-one@s"]})
    await secure.daemon.commands.run("clone", {"source": "b-one@s", "name": "a-clone"})
    token = await secure.token("t", "admin", prefix="a-")

    async def status(method: str, path: str, body: Any = None) -> int:
        return (await secure.ask(method, path, body, token=token))[0]

    _, rows, _ = await secure.ask("GET", "/v1/objects", token=token)
    assert [(row["name"], row["origin"]) for row in rows] == [("a-clone", None), ("a-one", None)]
    assert await status("GET", "/v1/objects?name=b-one") == await status("GET", "/v1/objects?name=b-none") == 403
    assert await status("GET", "/v1/diff?a=a-one&b=b-one") == 403
    for host in ("a-host", "b-host"):
        await secure.daemon.commands.run("host_create", {"name": host})
        await secure.daemon.commands.run("connect", {"name": "a-one", "host": host, "lun": 7})
    _, rows, _ = await secure.ask("GET", "/v1/objects?name=a-one", token=token)
    connected = [(each["host"], each["lun"]) for each in rows[0]["connections"]]
    assert {each for each in connected if each[0] != "*"} == {("a-host", 7), ("another host", 7)}
    for path in ("pool", "hosts", "sessions", "schedules", "target", "audit", "tokens", "scrub"):
        assert await status("GET", f"/v1/{path}") == 403, path
    for command, body in (
            ("create", {"name": "b-two", "size_bytes": 4096}), ("snapshot", {"names": ["a-one@s", "b-one@t"]}),
            ("clone", {"source": "b-one@s", "name": "a-two"}), ("clone", {"source": "a-one", "name": "b-two"}),
            ("delete", {"names": ["b-one"]}), ("delete", {"names": "b-one@s"}), ("rename", {"name": "a-one", "new_name": "b-x"}),
            ("rename", {"name": "b-one", "new_name": "a-x"}), ("connect", {"name": "a-one", "host": "web"}),
            ("host_create", {"name": "a-host"}), ("grow", {"size_bytes": 1 << 50}),
            ("token_create", {"name": "x", "scope": "admin"}),
            ("schedule_create", {"name": "a-s", "select": "*", "cron": "0 * * * *", "keep": "last=1"})):
        assert await status("POST", f"/v1/commands/{command}", body) == 403, command
    assert await status("POST", "/v1/scrub", {}) == 403
    assert await status("POST", "/v1/commands/snapshot", {"names": ["a-one@s"]}) == 200
    _, text, _ = await secure.ask("GET", "/metrics", token=token)
    assert "a-one" in text
    assert "b-one" not in text
    assert "lunette_pool" not in text
    _, stats, _ = await secure.ask("GET", "/v1/stats", token=token)
    assert (stats["pool"], {row["name"] for row in stats["luns"]} <= {"a-one", "a-clone"}) == ({}, True)
    _, events, _ = await secure.ask("GET", "/v1/events", token=token)
    assert {name for event in events for name in event["names"]} == {"a-host", "a-one", "a-one@s"}
    assert not any(name in json.dumps(events) for name in ("b-one", "b-host"))
    assert sorted(secure.daemon.pool.names()) == ["a-clone", "a-one", "a-one@s", "b-one", "b-one@s"]


async def test_a_refusal_names_no_object_of_others(secure: Secure) -> None:
    await volumes(secure, "a-one", "b-one")
    await secure.daemon.commands.run("disconnect", {"name": "a-one"})
    token = await secure.token("t", "operate", prefix="a-")
    status, body, _ = await secure.ask("POST", "/v1/commands/connect", {"name": "a-one", "lun": 1}, token=token)
    assert (status, body["error"]["message"]) == (409, "LUN 1 is another object already")
    with pytest.raises(LunetteError, match="LUN 1 is b-one already"):
        await secure.daemon.commands.run("connect", {"name": "a-one", "lun": 1})


async def test_a_refusal_does_not_say_which_objects_there_are(secure: Secure) -> None:
    await volumes(secure, "b-one")
    token = await secure.token("t", "operate", prefix="a-")
    said = [(await secure.ask("POST", "/v1/commands/delete", {"names": [name]}, token=token))[1]["error"]["message"]
            for name in ("b-one", "b-two")]
    assert said[0].replace("b-one", "b-two") == said[1]


@pytest.mark.parametrize("given", [b"\xff\xfe", b"lnt_\xff_\xff", b"lnt_\xc3\xa4_x", b"", b"_" * 4000])
async def test_bytes_that_are_no_token_are_nobodys(secure: Secure, given: bytes, caplog: pytest.LogCaptureFixture) -> None:
    await secure.token("t", "read")
    context = ssl.create_default_context(cafile=str(secure.certificates.ca))
    reader, writer = await asyncio.open_connection("127.0.0.1", secure.daemon.api.tcp_port, ssl=context)
    writer.write(b"GET /v1/objects HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + given + b"\r\n\r\n")
    assert (await asyncio.wait_for(reader.readline(), 30)).split()[1] == b"401"
    writer.close()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize("how", ["deleted", "expired"])
async def test_what_lasts_ends_with_its_token(secure: Secure, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is open when its token goes: it is cut, and no line that comes later is carried out."""
    monkeypatch.setattr(lasting, "LOOK_SECONDS", 0.01)
    token = await secure.token("t", "operate", expires_seconds=3600)
    context = ssl.create_default_context(cafile=str(secure.certificates.ca))
    reader, writer = await asyncio.open_connection("127.0.0.1", secure.daemon.api.tcp_port, ssl=context)

    def sent(name: str) -> bytes:
        line = json.dumps({"line": 1, "command": "create", "args": {"name": name, "size_bytes": 4096}}).encode() + b"\n"
        return b"%x\r\n%s\r\n" % (len(line), line)

    writer.write(f"POST /v1/batch HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nAuthorization: Bearer {token}\r\n\r\n"
                 .encode())
    async with asyncio.timeout(30):
        await reader.readuntil(b"\r\n\r\n")
        if how == "deleted":
            await secure.daemon.commands.run("token_delete", {"name": "t"})
        else:
            now = time.time()
            monkeypatch.setattr(time, "time", lambda: now + 3601)
        with contextlib.suppress(ConnectionError):
            if how == "deleted":                # at once; what expires is looked for once a second
                writer.write(sent("after"))
                await writer.drain()
            while await reader.read(65536):     # to the end of the connection
                pass
    assert secure.daemon.pool.lookup("after") is None
    writer.close()


async def test_a_batch_is_held_against_the_prefix_line_by_line(secure: Secure) -> None:
    await volumes(secure, "a-one", "b-one")
    token = await secure.token("t", "operate", prefix="a-")
    context = ssl.create_default_context(cafile=str(secure.certificates.ca))
    lines = "".join(json.dumps({"line": number, "command": "delete", "args": {"names": [name]}}) + "\n"
                    for number, name in enumerate(("b-one", "a-one")))
    async with (aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
                session.post(f"https://127.0.0.1:{secure.daemon.api.tcp_port}/v1/batch?keep_going=1", data=lines,
                             headers={"Authorization": f"Bearer {token}"}) as response):
        rows = [json.loads(line) for line in (await response.text()).splitlines()]
    assert [row.get("error", {}).get("code") for row in rows[:2]] == ["forbidden", None]
    assert list(secure.daemon.pool.names()) == ["b-one"]


async def test_jobs_of_others_are_not_seen(secure: Secure) -> None:
    token = await secure.token("t", "operate", prefix="a-")
    jobs = secure.daemon.jobs
    with jobs.run("send", ["a-one"]) as mine, jobs.run("send", ["b-one"]) as other, jobs.run("scrub") as whole:
        _, rows, _ = await secure.ask("GET", "/v1/jobs", token=token)
        assert [row["id"] for row in rows] == [mine.id]
        for job in (other, whole):
            assert (await secure.ask("GET", f"/v1/jobs/{job.id}", token=token))[0] == 404
            assert (await secure.ask("DELETE", f"/v1/jobs/{job.id}", token=token))[0] == 404


async def test_a_certificate_says_who_and_what_for(secure: Secure) -> None:
    status, _, _ = await secure.ask("POST", "/v1/commands/create", {"name": "v", "size_bytes": 4096}, certificate="operate")
    assert status == 200
    assert (await secure.ask("POST", "/v1/commands/host_create", {"name": "h"}, certificate="operate"))[0] == 403
    assert (await secure.ask("POST", "/v1/commands/create", {"name": "w", "size_bytes": 4096}, certificate="cook"))[0] == 403
    assert secure.daemon.api.parts.audit.entries()[-1]["identity"] == "certificate:operate"
    with pytest.raises(aiohttp.ClientError):
        await secure.ask("GET", "/v1/objects", certificate="stranger")      # another CA's: no session at all


async def test_a_page_from_elsewhere_may_not_use_a_browsers_certificate(secure: Secure) -> None:
    body = {"names": ["v"]}
    status, answer, _ = await secure.ask("POST", "/v1/commands/delete", body, certificate="operate",
                                         headers={"Origin": "https://evil.example"})
    assert (status, answer["error"]["code"]) == (403, "forbidden")
    own = f"https://127.0.0.1:{secure.daemon.api.tcp_port}"
    assert (await secure.ask("POST", "/v1/commands/delete", body, certificate="operate", headers={"Origin": own}))[0] == 404


@pytest.mark.parametrize(("headers", "status"), [
    ({}, 200), (BROWSER | {"Host": "localhost:8080"}, 200), (BROWSER | {"Host": "[::1]:80"}, 200),
    (BROWSER | {"Host": "evil.example:8080"}, 403), ({"Origin": "http://evil.example", "Host": "localhost"}, 403),
    ({"Origin": "http://localhost:8080", "Host": "localhost:8080"}, 200), ({"Origin": "http://e", "Host": "e"}, 403),
])
async def test_a_browser_reaches_the_unix_socket_only_by_a_local_name(control: Control, headers: dict[str, str],
                                                                      status: int) -> None:
    """Through a forwarded port: a page of any name may resolve to this machine, and asks in the user's name."""
    async with (aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(control.socket))) as session,
                session.get("http://lunette/v1/pool", headers=headers) as response):
        assert response.status == status


async def test_the_page_is_for_anybody_and_may_load_nothing_from_elsewhere(secure: Secure) -> None:
    for path in ("/", "/page/app.js", "/page/style.css", "/page/icon.svg"):
        status, _, headers = await secure.ask("GET", path)
        assert status == 200
        assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'")
    for path in ("/page/__init__.py", "/page/..%2Fconfig.py", "/page/none.js"):
        assert (await secure.ask("GET", path))[0] == 404


async def test_without_a_token_or_a_ca_there_is_no_listener(tmp_path: Path, certificates: Certificates) -> None:
    pool = FakePool()
    listener = ApiListener(Portal("127.0.0.1", 0), *certificates.server)
    daemon = Daemon(ServeConfig(pool_path=tmp_path / "pool", api_path=tmp_path / "a.sock", api_listener=listener))
    daemon.wire(pool)
    daemon.pool.attach()
    await daemon.api.start()
    assert daemon.api.tcp_port == 0
    await daemon.commands.run("token_create", {"name": "t", "scope": "read"})
    assert daemon.api.tcp_port
    await daemon.api.stop()
    daemon.pool.detach()
    pool.close()
    broken = Daemon(replace(daemon.config, api_listener=replace(listener, certificate=tmp_path / "none")))
    broken.wire(FakePool())
    with pytest.raises(LunetteError, match="cannot be read"):
        broken.api.read_certificates()


async def test_strangers_make_room_for_who_has_a_token(secure: Secure, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that say nothing are closed after a while, when somebody else comes; those that are known stay."""
    token = await secure.token("t", "read")
    assert (await secure.ask("GET", "/v1/version", token=token))[0] == 200
    monkeypatch.setattr("target.server.api.tls.MAX_CONNECTIONS", 3)
    context = ssl.create_default_context(cafile=str(secure.certificates.ca))
    port = secure.daemon.api.tcp_port
    strangers = [await asyncio.open_connection("127.0.0.1", port, ssl=context) for _ in range(3)]
    with pytest.raises((aiohttp.ClientError, ConnectionError)):
        await secure.ask("GET", "/v1/version", token=token)
    monkeypatch.setattr("target.server.api.tls.STRANGER_SECONDS", -1.0)
    assert (await secure.ask("GET", "/v1/version", token=token))[0] == 200
    for reader, writer in strangers:
        assert await reader.read() == b""
        writer.close()


async def test_certificates_are_read_again(secure: Secure, tmp_path: Path) -> None:
    """As SIGHUP has them read: whoever comes then meets the new one, and only that."""
    other = Certificates(tmp_path)
    before = [path.read_bytes() for path in secure.certificates.server]
    try:
        for old, new in zip(secure.certificates.server, other.server, strict=True):
            old.write_bytes(new.read_bytes())
        secure.daemon.api.read_certificates()
        with pytest.raises(aiohttp.ClientError):
            await secure.ask("GET", "/healthz")
        await secure.ask("GET", "/healthz", authority=other)
    finally:
        for path, raw in zip(secure.certificates.server, before, strict=True):
            path.write_bytes(raw)


async def test_who_is_refused_is_in_the_log_and_what_was_tried_is_not(secure: Secure, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(50):
        await secure.ask("GET", "/v1/objects", token="lnt_guess_guess")
    lines = [record.getMessage() for record in caplog.records if "is refused" in record.getMessage()]
    assert 0 < len(lines) < 30
    assert "from 127.0.0.1" in lines[0]
    assert "guess" not in caplog.text


async def test_plain_text_gets_nothing(secure: Secure) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", secure.daemon.api.tcp_port)
    writer.write(b"GET /v1/objects HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"HTTP" not in await reader.read(100)
    writer.close()


async def test_bytes_that_are_no_http_leave_no_line_in_the_log(control: Control, caplog: pytest.LogCaptureFixture) -> None:
    reader, writer = await asyncio.open_unix_connection(str(control.socket))
    writer.write(b"GET /v1/version HTTP/1.1\r\nHost: x\r\nX: \0\r\n\r\n")
    assert (await reader.readline()).split()[1] == b"400"
    writer.close()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_stream_of_events_ends_with_its_token_and_goes_on_where_it_was(secure: Secure) -> None:
    token = await secure.token("t", "read", prefix="a-")
    context = ssl.create_default_context(cafile=str(secure.certificates.ca))
    url = f"https://127.0.0.1:{secure.daemon.api.tcp_port}/v1/events"
    headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        async with session.get(url, headers=headers) as response:
            assert await response.content.readline() == b": lunette\n"
            await volumes(secure, "b-one", "a-one")
            found = []
            while len(found) < 3:
                line = (await response.content.readline()).decode().strip()
                if line and not line.startswith(":"):
                    found.append(line)
            last = found[0].removeprefix("id: ")
            assert found[1] == "event: create"
            assert json.loads(found[2].removeprefix("data: "))["names"] == ["a-one"]
            await volumes(secure, "a-two")
        async with session.get(f"{url}?after={last}", headers={**headers, "Accept": "application/json"}) as response:
            assert [row["names"] for row in await response.json()] == [["a-two"]]
        async with session.get(url, headers={**headers, "Last-Event-ID": last}) as response:
            assert await response.content.readline() == b": lunette\n"
            await response.content.readuntil(b"a-two")
            await secure.daemon.commands.run("token_delete", {"name": "t"})
            await volumes(secure, "a-three")
            assert b"a-three" not in await response.content.read()
