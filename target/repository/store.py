"""Stores: where a repository's objects stand, a directory or S3, by one library (obstore). Blocking; any thread may call.

A put that was answered is durable: S3 says so, a directory is synced by `settle`. Errors are LunetteError `store`, one line that
shows no credentials. Those come from the environment (AWS_ACCESS_KEY_ID ...), never from an argument or the pool.
"""

from __future__ import annotations

import ctypes
import os
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from target.errors import LunetteError

RETRIES = 8
RETRY_SECONDS = 90
S3_OPTIONS = ("endpoint", "region")


class Stat(NamedTuple):
    size_bytes: int
    modified_s: float       # by the store's clock


def check_url(url: str) -> str:
    """A repository's URL as it is kept: an absolute path, or s3://BUCKET/PREFIX?endpoint=URL&region=R. LunetteError invalid."""
    parts = urlsplit(url)
    if parts.scheme == "s3":
        if "@" in parts.netloc:
            raise LunetteError("invalid", "a repository's URL holds no credentials: they come from the environment "
                                          "(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)")
        query = parse_qs(parts.query)
        if not parts.netloc or parts.fragment or any(key not in S3_OPTIONS or len(query[key]) > 1 for key in query):
            raise LunetteError("invalid", "a repository in S3 is s3://BUCKET/PREFIX?endpoint=URL&region=REGION")
        return url
    if parts.scheme not in ("", "file"):
        raise LunetteError("invalid", f"a repository is a directory or s3://BUCKET/PREFIX, not {parts.scheme}://")
    return os.path.abspath(parts.path if parts.scheme else url)


class Store:
    """One store below its prefix."""

    def __init__(self, url: str, *, make: bool = False) -> None:
        """Of a URL that was checked. With `make` a missing directory is made. LunetteError store, not_found."""
        from obstore.store import LocalStore, S3Store

        self.url = url
        self._directory = None if url.startswith("s3://") else Path(url)
        try:
            if self._directory is not None:
                if not make and not self._directory.is_dir():
                    raise LunetteError("not_found", f"there is no directory {url}")
                self._store: Any = LocalStore(prefix=self._directory, mkdir=make)
                return
            parts = urlsplit(url)
            options: Any = {key: values[0] for key, values in parse_qs(parts.query).items()}
            plain = options.get("endpoint", "").startswith("http://")
            self._store = S3Store(
                parts.netloc, prefix=parts.path.strip("/") or None, **options,
                client_options={"allow_http": plain, "timeout": timedelta(seconds=300)},
                retry_config={"max_retries": RETRIES, "retry_timeout": timedelta(seconds=RETRY_SECONDS)})
        except LunetteError:
            raise
        except Exception as error:
            raise self._failed("open it", error) from None

    def put(self, path: str, data: bytes, *, new: bool = False) -> bool:
        """Store an object. With `new`, only if there is none of that name: False then."""
        import obstore
        from obstore.exceptions import AlreadyExistsError

        try:
            obstore.put(self._store, path, data, mode="create" if new else "overwrite", use_multipart=False)
            return True
        except AlreadyExistsError:
            return False
        except Exception as error:
            raise self._failed(f"write {path}", error) from None

    def get(self, path: str) -> bytes | None:
        """A whole object; None: there is none."""
        import obstore

        try:
            return bytes(obstore.get(self._store, path).bytes())
        except FileNotFoundError:
            return None
        except Exception as error:
            raise self._failed(f"read {path}", error) from None

    def get_range(self, path: str, offset_bytes: int, length_bytes: int) -> bytes | None:
        """A part of an object; None: there is none, or it ends before."""
        import obstore

        try:
            found = bytes(obstore.get_range(self._store, path, start=offset_bytes, length=length_bytes))
            return found if len(found) == length_bytes else None
        except FileNotFoundError:
            return None
        except Exception as error:
            if self.stat(path) is None or "range" in str(error).lower():
                return None
            raise self._failed(f"read {path}", error) from None

    def stat(self, path: str) -> Stat | None:
        import obstore

        try:
            return _stat(obstore.head(self._store, path))
        except FileNotFoundError:
            return None
        except Exception as error:
            raise self._failed(f"look at {path}", error) from None

    def list(self, prefix: str) -> dict[str, Stat]:
        """All objects below a prefix, by path."""
        import obstore

        try:
            return {each["path"]: _stat(each) for batch in obstore.list(self._store, prefix) for each in batch}
        except Exception as error:
            raise self._failed(f"list {prefix}", error) from None

    def delete(self, path: str) -> None:
        """Delete an object, if it is there."""
        import obstore

        try:
            obstore.delete(self._store, path)
        except FileNotFoundError:
            pass
        except Exception as error:
            raise self._failed(f"delete {path}", error) from None

    def settle(self) -> None:
        """What was put is durable when this returns."""
        if self._directory is None:
            return
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if ctypes.CDLL(None, use_errno=True).syncfs(descriptor):
                raise self._failed("sync it", OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno())))
        finally:
            os.close(descriptor)

    def _failed(self, what: str, error: Exception) -> LunetteError:
        why = (getattr(error, "strerror", None) or str(error)).strip().split("\n")[0]
        return LunetteError("store", f"{self.url.partition('?')[0]}: cannot {what}: {why[:300]}")


def _stat(meta: Any) -> Stat:
    return Stat(int(meta["size"]), meta["last_modified"].timestamp())
