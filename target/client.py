"""The API's client: plain HTTP over a Unix socket with the standard library alone, so that the command line starts fast."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from target.errors import LunetteError

REPORT_SECONDS = 0.2    # between two reports of a job
END_SECONDS = 5.0       # that the daemon has to end one
BROKEN_OFF = b'{"error":'   # how the last line of a list begins that is not whole


Told = Callable[[int, int | None, int], None]


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, patience_s: float | None = None) -> None:
        super().__init__("lunette")
        self._path = path
        self._patience_s = patience_s

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._patience_s)
        self.sock.connect(self._path)


class _Reporter:
    """The open request that a job is reported by."""

    def __init__(self, connection: _UnixConnection, response: http.client.HTTPResponse) -> None:
        self._connection = connection
        self._over: LunetteError | None = None
        self._row = {"done": 0, "moved": 0}
        self._sent_s = 0.0
        self._thread = threading.Thread(target=self._watch, args=[response], daemon=True)
        self._thread.start()

    def told(self, done: int, total: int | None = None, moved: int = 0) -> None:
        """So much is done. LunetteError: the daemon has ended the job."""
        if self._over is not None:
            raise self._over
        self._row = {"done": done, "moved": moved, **({} if total is None else {"total": total})}
        now_s = time.monotonic()
        if now_s - self._sent_s >= REPORT_SECONDS:
            self._sent_s = now_s
            self._send(self._row)

    def end(self, **how: str) -> None:
        self._send({**self._row, **how})
        self._thread.join(END_SECONDS)
        self._connection.close()

    def _send(self, row: dict[str, Any]) -> None:
        raw = json.dumps(row).encode() + b"\n"
        with contextlib.suppress(OSError):      # the answer says why
            self._connection.send(b"%x\r\n%s\r\n" % (len(raw), raw))

    def _watch(self, response: http.client.HTTPResponse) -> None:
        line = b""
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            line = response.readline()
        if b'"error"' in line:
            self._over = error_of(500, line)
        elif not line:
            self._over = LunetteError("unreachable", "the daemon is gone")


class Client:
    """One daemon, at its API socket. Every method raises LunetteError: what the daemon says, or `unreachable`."""

    def __init__(self, path: str, patience_s: float | None = None) -> None:
        """`patience_s`: who says nothing for so long is unreachable. Without it an answer is waited for as long as it takes."""
        self.path = path
        self._patience_s = patience_s

    def get(self, path: str, **query: str) -> Any:
        """A listing."""
        return self._request("GET", path + ("?" + urllib.parse.urlencode(query) if query else ""))

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        return self._request("POST", path, json.dumps(body or {}).encode())

    def delete(self, path: str) -> Any:
        return self._request("DELETE", path)

    def command(self, name: str, args: dict[str, Any]) -> Any:
        """Run one management command."""
        return self.post(f"/v1/commands/{name}", args)

    def command_with(self, fd: int, name: str, args: dict[str, Any]) -> Any:
        """Run a command on a descriptor of this process, which the daemon is handed. When this process ends, so does that."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            try:
                sock.connect(self.path + ".fd")
                socket.send_fds(sock, [b"."], [fd])
                word = sock.recv(64).decode().strip()
            except OSError as error:
                raise self._lost(error) from None
            return self.command(name, {**args, "descriptor": word})

    @contextlib.contextmanager
    def job(self, kind: str, **query: str) -> Iterator[Told]:
        """Work that this process does while the block lasts, as a job of the daemon's. Call what is yielded with what is done,
        of how much, and bytes moved: it raises LunetteError once the job was cancelled.
        """
        connection = _UnixConnection(self.path)
        try:
            connection.connect()
            connection.putrequest("POST", "/v1/jobs?" + urllib.parse.urlencode({"kind": kind, **query}))
            connection.putheader("Transfer-Encoding", "chunked")
            connection.endheaders()
            response = connection.getresponse()
            if response.status != 200:
                raise error_of(response.status, response.read())
            response.readline()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._lost(error) from None
        reporter = _Reporter(connection, response)
        try:
            yield reporter.told
        except BaseException as error:
            reporter.end(state="failed", message=str(error)[:1000] or type(error).__name__)
            raise
        reporter.end(state="done")

    def stream(self, path: str, note: Callable[[str], None], **query: str) -> Iterator[bytes]:
        """A long list, piece by piece; `note` is called with what else the daemon says. LunetteError when it breaks off."""
        connection, response = self._open("GET", f"{path}?{urllib.parse.urlencode(query)}", None)
        last_line = b""
        with contextlib.closing(connection):
            try:
                said = response.getheader("Lunette-Note")
                if said:
                    note(said)
                while piece := response.read1(65536):
                    yield piece
                    last_line = (last_line + piece).rstrip(b"\n").rpartition(b"\n")[2]
            except (OSError, http.client.HTTPException) as error:
                raise self._lost(error) from None
        if last_line.lstrip(b"[").startswith(BROKEN_OFF):
            raise error_of(500, last_line.strip(b"[]"))

    def events(self, after: str | None) -> Iterator[dict[str, Any]]:
        """Events behind an id (without one: from now on) as they come, until the daemon ends the stream. LunetteError."""
        connection, response = self._open("GET", "/v1/events", None, {
            "Accept": "text/event-stream", **({"Last-Event-ID": after} if after else {})})
        with contextlib.closing(connection):
            try:
                for line in response:
                    if line.startswith(b"data: "):
                        yield json.loads(line[6:])
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise self._lost(error) from None

    def batch(self, rows: Iterable[dict[str, Any]], *, keep_going: bool) -> Iterator[dict[str, Any]]:
        """Send commands while results come back. The generator `rows` runs in another thread."""
        connection = _UnixConnection(self.path)
        failure: list[BaseException] = []
        stopping = threading.Event()

        def chunks() -> Iterator[bytes]:
            pending = bytearray()
            for row in rows:
                if stopping.is_set():
                    return
                pending += json.dumps(row, separators=(",", ":")).encode() + b"\n"
                if len(pending) >= 4096 or row.get("flush"):
                    yield bytes(pending)
                    pending.clear()
            if pending:
                yield bytes(pending)

        def send() -> None:
            try:
                for chunk in chunks():
                    connection.send(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                connection.send(b"0\r\n\r\n")
            except (BrokenPipeError, ConnectionResetError):
                pass  # the daemon stopped reading: its answer says why
            except BaseException as error:
                failure.append(error)
                with contextlib.suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_WR)

        with contextlib.closing(connection):
            try:
                connection.connect()
                connection.putrequest("POST", f"/v1/batch?keep_going={int(keep_going)}")
                connection.putheader("Transfer-Encoding", "chunked")
                connection.putheader("Content-Type", "application/x-ndjson")
                connection.endheaders()
                sender = threading.Thread(target=send, daemon=True)
                sender.start()
                response = connection.getresponse()
                if response.status != 200:
                    raise error_of(response.status, response.read())
                for line in response:
                    yield json.loads(line)
            except (OSError, http.client.HTTPException) as error:
                raise self._lost(error) from None
            finally:
                stopping.set()
        if failure:
            raise failure[0]

    def _request(self, method: str, path: str, body: bytes | None = None) -> Any:
        connection, response = self._open(method, path, body)
        with contextlib.closing(connection):
            try:
                body = response.read()
                value = json.loads(body)
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise self._lost(error) from None
        if isinstance(value, list) and value and "error" in value[-1]:
            raise error_of(500, json.dumps(value[-1]).encode())
        return value

    def _open(self, method: str, path: str, body: bytes | None,
              headers: Mapping[str, str] = MappingProxyType({})) -> tuple[_UnixConnection, http.client.HTTPResponse]:
        connection = _UnixConnection(self.path, self._patience_s)
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            if response.status >= 400:
                raise error_of(response.status, response.read())
            return connection, response
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._lost(error) from None
        except BaseException:
            connection.close()
            raise

    def _lost(self, error: Exception) -> LunetteError:
        if isinstance(error, (FileNotFoundError, ConnectionRefusedError)):
            return LunetteError("unreachable", f"no daemon answers at {self.path}; --api or LUNETTE_API says where it is")
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return LunetteError("unreachable", f"{self.path}: {why}")


def error_of(status: int, body: bytes) -> LunetteError:
    """What the daemon's answer to a refused request says."""
    try:
        document = json.loads(body)["error"]
        return LunetteError(str(document["code"]), str(document["message"]))
    except (ValueError, KeyError, TypeError):
        return LunetteError("internal", f"the daemon answered with HTTP status {status}")
