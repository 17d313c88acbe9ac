"""etcd (3.4 and later) as the agents' store, by its JSON gateway and with the standard library alone."""

from __future__ import annotations

import base64
import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from target.agent.agent import StoreError

TIMEOUT_S = 3.0


class Etcd:
    """A `Store` (target/agent/agent.py) below `prefix`. Each of `urls` is tried in turn."""

    def __init__(self, urls: list[str], prefix: str = "/lunette/") -> None:
        self._urls = list(urls)
        self._prefix = prefix

    def grant(self, ttl_s: float) -> int:
        return int(self._call("/v3/lease/grant", {"TTL": max(1, round(ttl_s))})["ID"])

    def keep_alive(self, lease: int) -> None:
        if int(self._call("/v3/lease/keepalive", {"ID": lease}).get("result", {}).get("TTL", 0)) <= 0:
            raise StoreError("the lease is over")

    def read(self, prefix: str) -> dict[str, str]:
        request = {"key": self._key(prefix)}
        if prefix.endswith("/"):
            whole = (self._prefix + prefix).encode()
            request["range_end"] = _text(whole[:-1] + bytes([whole[-1] + 1]))
        found = self._call("/v3/kv/range", request).get("kvs", [])
        return {base64.b64decode(each["key"]).decode()[len(self._prefix):]: base64.b64decode(each.get("value", "")).decode()
                for each in found}

    def put(self, key: str, value: str, lease: int = 0) -> None:
        self._call("/v3/kv/put", self._put(key, value, lease))

    def create(self, key: str, value: str, lease: int = 0) -> bool:
        answer = self._call("/v3/kv/txn", {
            "compare": [{"key": self._key(key), "target": "CREATE", "createRevision": "0"}],
            "success": [{"requestPut": self._put(key, value, lease)}]})
        return bool(answer.get("succeeded", False))

    def delete(self, key: str) -> None:
        self._call("/v3/kv/deleterange", {"key": self._key(key)})

    def replace(self, gone: str, key: str, value: str) -> None:
        self._call("/v3/kv/txn", {"success": [{"requestDeleteRange": {"key": self._key(gone)}},
                                              {"requestPut": self._put(key, value, 0)}]})

    def _key(self, key: str) -> str:
        return _text((self._prefix + key).encode())

    def _put(self, key: str, value: str, lease: int) -> dict[str, Any]:
        return {"key": self._key(key), "value": _text(value.encode()), "lease": str(lease)}

    def _call(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST; StoreError when none of the servers answers well."""
        said = "no server is named"
        for url in list(self._urls):
            try:
                return self._ask(url, path, body)
            except (OSError, http.client.HTTPException, ValueError) as error:
                said = f"{url}: {error}"
                self._urls.append(self._urls.pop(0))
        raise StoreError(said)

    @staticmethod
    def _ask(url: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        parts = urlsplit(url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.netloc, timeout=TIMEOUT_S)
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            raw = response.read()
            if response.status != 200:
                raise StoreError(f"{url}{path}: {response.status} {raw[:200].decode(errors='replace').strip()}")
            answer: dict[str, Any] = json.loads(raw)
            return answer
        finally:
            connection.close()


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
