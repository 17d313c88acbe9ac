"""A Ceph cluster as Lunette uses it: librados and librbd, loaded when a pool asks for them, and one client of the cluster.

Lives here and nowhere else: the C interfaces of both libraries (rados/librados.h, rbd/librbd.h), the form `rbd:POOL/IMAGE@CONF`,
and what cannot be told apart above: an address on the cluster, its blocklist, its maps. A client is one `rados_t`: a cluster that
blocks it blocks all that it does, so a pool has one of its own.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from core.errors import PoolError

LIBRADOS, LIBRBD = "librados.so.2", "librbd.so.1"
PREFIX = "rbd:"
FENCED_OBJECT = b"lunette.fenced"      # of the cluster's pool: whose the addresses are that gateways have blocked
GATEWAYS_OBJECT = b"lunette.gateways"   # who served each image last
MANIFEST_OBJECT = "lunette.manifest."   # and an image's name: what its owner tells the gateways that wait
NOTES_PAGE = 512                        # fewer than an OSD gives at once
FOR_GOOD_SECONDS = 315_360_000      # ten years: an entry that expired would let a gateway that slept write again
CONNECT_SECONDS = 30
# The cluster's configuration counts for whatever stands not here.
_SETTINGS = {
    "rbd_cache": "false",                               # what is answered is on the OSDs
    "rbd_skip_partial_discard": "true",
    "rbd_blocklist_on_break_lock": "false",             # whoever breaks a lock has blocked its owner already, for longer
    "rbd_auto_exclusive_lock_until_manual_request": "false",
    "client_mount_timeout": str(CONNECT_SECONDS),
    "client_notify_timeout": "2",                       # whoever watched the image and was fenced answers nothing
    "rbd_non_blocking_aio": "false",                    # a reactor's call goes on to the network by itself, one thread fewer ...
    "objecter_inflight_ops": "65536",                   # ... and never waits: more than a reactor has tasks ...
    "objecter_inflight_op_bytes": str(1 << 30),         # ... and buffers
}
_PLACE = re.compile(r"rbd:(?P<pool>[^/@]+)/(?:(?P<namespace>[^/@]+)/)?(?P<image>[^/@]+)(?:@(?P<conf>.+))?")
_CDEF = """
typedef void *rados_t; typedef void *rados_ioctx_t; typedef void *rbd_image_t;
int rados_create2(rados_t *c, const char *cluster, const char *name, uint64_t flags);
int rados_conf_read_file(rados_t c, const char *path);
int rados_conf_parse_env(rados_t c, const char *var);
int rados_conf_set(rados_t c, const char *option, const char *value);
int rados_connect(rados_t c);
void rados_shutdown(rados_t c);
int rados_getaddrs(rados_t c, char **addrs);
int rados_cluster_fsid(rados_t c, char *buf, size_t len);
int rados_ioctx_create(rados_t c, const char *pool, rados_ioctx_t *io);
void rados_ioctx_destroy(rados_ioctx_t io);
void rados_ioctx_set_namespace(rados_ioctx_t io, const char *namespace);
void rados_set_pool_full_try(rados_ioctx_t io);
int rados_blocklist_add(rados_t c, char *address, uint32_t seconds);
int rados_wait_for_latest_osdmap(rados_t c);
int rados_mon_command(rados_t c, const char **cmd, size_t n, const char *in, size_t in_len, char **out, size_t *out_len,
                      char **status, size_t *status_len);
void rados_buffer_free(char *buf);
int rados_remove(rados_ioctx_t io, const char *object);
typedef void *rados_write_op_t; typedef void *rados_read_op_t; typedef void *rados_omap_iter_t;
rados_write_op_t rados_create_write_op(void);
void rados_release_write_op(rados_write_op_t op);
void rados_write_op_omap_set(rados_write_op_t op, const char **keys, const char **values, const size_t *lengths, size_t n);
void rados_write_op_omap_rm_keys(rados_write_op_t op, const char **keys, size_t n);
int rados_write_op_operate(rados_write_op_t op, rados_ioctx_t io, const char *object, void *mtime, int flags);
rados_read_op_t rados_create_read_op(void);
void rados_release_read_op(rados_read_op_t op);
void rados_read_op_omap_get_vals2(rados_read_op_t op, const char *after, const char *prefix, uint64_t most,
                                  rados_omap_iter_t *found, unsigned char *more, int *result);
int rados_read_op_operate(rados_read_op_t op, rados_ioctx_t io, const char *object, int flags);
int rados_omap_get_next(rados_omap_iter_t found, char **key, char **value, size_t *length);
void rados_omap_get_end(rados_omap_iter_t found);
"""
_CDEF_RBD = """
int rbd_create2(rados_ioctx_t io, const char *name, uint64_t size, uint64_t features, int *order);
int rbd_remove(rados_ioctx_t io, const char *name);
int rbd_open(rados_ioctx_t io, const char *name, rbd_image_t *image, const char *snap);
int rbd_close(rbd_image_t image);
int rbd_get_size(rbd_image_t image, uint64_t *size);
int rbd_get_features(rbd_image_t image, uint64_t *features);
int rbd_get_id(rbd_image_t image, char *id, size_t len);
typedef struct { uint64_t size, obj_size, num_objs; int order; char prefix[24]; int64_t parent_pool; char parent[96]; } rbd_info;
int rbd_stat(rbd_image_t image, rbd_info *info, size_t len);
int rbd_resize(rbd_image_t image, uint64_t size);
ssize_t rbd_read(rbd_image_t image, uint64_t at, size_t len, char *buf);
ssize_t rbd_write(rbd_image_t image, uint64_t at, size_t len, const char *buf);
ssize_t rbd_compare_and_write(rbd_image_t image, uint64_t at, size_t len, const char *compare, const char *buf,
                              uint64_t *mismatch, int flags);
int rbd_discard(rbd_image_t image, uint64_t at, uint64_t len);
int rbd_flush(rbd_image_t image);
int rbd_lock_acquire(rbd_image_t image, int mode);
int rbd_lock_get_owners(rbd_image_t image, int *mode, char **owners, size_t *max);
void rbd_lock_get_owners_cleanup(char **owners, size_t n);
int rbd_lock_break(rbd_image_t image, int mode, const char *owner);
int rbd_is_exclusive_lock_owner(rbd_image_t image, int *is_owner);
"""
_LOADED: tuple[Any, Any, Any] | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where an image is: `rbd:POOL/IMAGE` or `rbd:POOL/NAMESPACE/IMAGE`, then `@CONF` for a configuration file not Ceph's own."""

    pool: str
    image: str
    namespace: str = ""
    conf: str = ""

    def __str__(self) -> str:
        return f"{PREFIX}{self.pool}/{self.namespace + '/' if self.namespace else ''}{self.image}"


def is_place(path: str | os.PathLike[str]) -> bool:
    """Does a pool's path name an image of a cluster?"""
    return os.fspath(path).startswith(PREFIX)


def parse_place(text: str | os.PathLike[str]) -> Place:
    """PoolError: invalid."""
    found = _PLACE.fullmatch(os.fspath(text))
    if found is None:
        raise PoolError("invalid", f"{os.fspath(text)} names no image of a Ceph cluster: rbd:POOL/IMAGE, "
                                   "rbd:POOL/IMAGE@/etc/ceph/other.conf")
    return Place(found["pool"], found["image"], found["namespace"] or "", found["conf"] or "")


def libraries() -> tuple[Any, Any, Any]:
    """(ffi, librados, librbd), loaded once. PoolError: invalid, in one line, where they are not installed."""
    global _LOADED
    if _LOADED is None:
        from cffi import FFI

        ffi = FFI()
        ffi.cdef(_CDEF + _CDEF_RBD)
        try:
            _LOADED = ffi, ffi.dlopen(LIBRADOS), ffi.dlopen(LIBRBD)
        except OSError:
            raise PoolError("invalid", f"pools on Ceph need {LIBRADOS} and {LIBRBD}, which are not installed here "
                                       "(Debian: apt-get install librbd1)") from None
    return _LOADED


def checked(result: int, what: str) -> int:
    """A result of either library; OSError for a negative one."""
    if result < 0:
        raise OSError(-result, f"{what}: {explain(-result)}")
    return result


def explain(number: int) -> str:
    """An error of the cluster for people."""
    return {errno.ESHUTDOWN: "the cluster has blocked this client (another gateway has taken over)",
            errno.ENOSPC: "the cluster is full", errno.EDQUOT: "the quota of the cluster's pool is used up",
            errno.EROFS: "this client has not the image's lock any more", errno.ETIMEDOUT: "the cluster does not answer",
            errno.EACCES: "the cluster refuses this client's key, or its caps",
            errno.EPERM: "the caps of this client's key do not allow it"}.get(number, os.strerror(number))


def client_id() -> str:
    """Which of the cluster's users this process is: CEPH_ARGS may say (--id NAME, --name client.NAME), else admin."""
    words = iter(shlex.split(os.environ.get("CEPH_ARGS", "")))
    for word in words:
        option, _, value = word.partition("=")
        if option in ("--id", "--user", "--name", "-n"):
            return (value or next(words, "")).removeprefix("client.") or "admin"
    return "admin"


class Client:
    """A connection to the cluster, with an address of its own. Calls wait for the cluster without the interpreter. OSError."""

    def __init__(self, place: Place) -> None:
        """PoolError: invalid (no library, no configuration), not_found (no such pool), io_read (no cluster, no access)."""
        self.place = place
        self.ffi, self.rados, self.rbd = libraries()
        self._handle: Any = None
        self.ioctx: Any = None
        self.fenced, self.gateways = Notes(self, FENCED_OBJECT), Notes(self, GATEWAYS_OBJECT)
        try:
            self._connect()
        except BaseException:
            self.close()
            raise

    def _connect(self) -> None:
        conf = self.place.conf
        handle = self.ffi.new("rados_t *")
        checked(self.rados.rados_create2(handle, b"ceph", f"client.{client_id()}".encode(), 0), "a client of the cluster")
        self._handle = handle[0]
        if self.rados.rados_conf_read_file(self._handle, conf.encode() if conf else self.ffi.NULL) < 0:
            raise PoolError("invalid", f"{self.place}: the configuration of its cluster cannot be read: "
                                       f"{conf or 'CEPH_CONF, /etc/ceph/ceph.conf'}")
        self.rados.rados_conf_parse_env(self._handle, self.ffi.NULL)
        for option, value in _SETTINGS.items():
            checked(self.rados.rados_conf_set(self._handle, option.encode(), value.encode()), option)
        result = self.rados.rados_connect(self._handle)
        if result < 0:
            raise PoolError("io_read", f"{self.place}: its cluster cannot be reached: {explain(-result)}")
        found = self.ffi.new("rados_ioctx_t *")
        result = self.rados.rados_ioctx_create(self._handle, self.place.pool.encode(), found)
        if result < 0:
            raise PoolError("not_found" if result == -errno.ENOENT else "io_read",
                            f"{self.place}: the cluster's pool {self.place.pool}: {explain(-result)}")
        self.ioctx = found[0]
        if self.place.namespace:
            self.rados.rados_ioctx_set_namespace(self.ioctx, self.place.namespace.encode())
        self.rados.rados_set_pool_full_try(self.ioctx)      # a full cluster refuses; else it would have writes wait for ever

    def address(self) -> str:
        """What the cluster knows this client by, in its blocklist and as the owner of locks."""
        found = self.ffi.new("char **")
        checked(self.rados.rados_getaddrs(self._handle, found), "the client's address")
        text = self.ffi.string(found[0]).decode()
        self.rados.rados_buffer_free(found[0])
        return str(text).removeprefix("v1:").removeprefix("v2:").removeprefix("any:")

    def fsid(self) -> bytes:
        buffer = self.ffi.new("char[]", 37)
        checked(self.rados.rados_cluster_fsid(self._handle, buffer, 37), "the cluster's id")
        return bytes.fromhex(self.ffi.string(buffer).decode().replace("-", ""))

    def command(self, prefix: str, **arguments: str | int) -> Any:
        """A command to the monitors; its answer, from JSON."""
        words = self.ffi.new("char[]", json.dumps({"prefix": prefix, "format": "json", **arguments}).encode())
        listed = self.ffi.new("const char *[]", [words])
        out, status = self.ffi.new("char **"), self.ffi.new("char **")
        out_length, status_length = self.ffi.new("size_t *"), self.ffi.new("size_t *")
        result = self.rados.rados_mon_command(self._handle, listed, 1, self.ffi.NULL, 0, out, out_length, status, status_length)
        try:
            text = bytes(self.ffi.buffer(out[0], out_length[0])) if out_length[0] else b""
            checked(result, f"`{prefix}`")
        finally:
            for each in (out[0], status[0]):
                if each != self.ffi.NULL:
                    self.rados.rados_buffer_free(each)
        decoder = json.JSONDecoder()            # some answers have words for people behind their JSON
        return decoder.raw_decode(text.decode().lstrip())[0] if text.strip() else None

    def epoch(self) -> int:
        """The number of the cluster's map, from monitors that are sure to know the newest one."""
        return int(self.command("osd stat")["epoch"])

    def blocked(self) -> set[str]:
        """The addresses that the cluster refuses."""
        return {str(each["addr"]).removeprefix("v1:").removeprefix("v2:").removeprefix("any:")
                for each in self.command("osd blocklist ls") or []}

    def block(self, address: str) -> None:
        """Refuse all that a client sends from now on, for good, and know that map before anything else is sent."""
        buffer = self.ffi.new("char[]", address.encode())
        checked(self.rados.rados_blocklist_add(self._handle, buffer, FOR_GOOD_SECONDS), f"blocking {address}")
        checked(self.rados.rados_wait_for_latest_osdmap(self._handle), "the cluster's map")

    def unblock(self, address: str) -> None:
        """Only for a client whose process is no more, and whose last requests are long over."""
        self.command("osd blocklist", blocklistop="rm", addr=address)

    def sweep(self, gone: Callable[[dict[str, Any]], bool]) -> list[str]:
        """Unblock and forget those that are `gone` for certain; their addresses. Where the caps do not allow it: nobody."""
        swept = []
        with contextlib.suppress(OSError):
            for address, facts in self.fenced.all().items():
                if gone(facts):
                    self.unblock(address)
                    self.fenced.remove(address)
                    swept.append(address)
        return swept

    def close(self) -> None:
        if self.ioctx is not None:
            self.rados.rados_ioctx_destroy(self.ioctx)
            self.ioctx = None
        if self._handle is not None:
            self.rados.rados_shutdown(self._handle)
            self._handle = None


class Table:
    """Bytes by key in one object of the cluster's pool, which all gateways see. Calls wait for the cluster. OSError."""

    def __init__(self, client: Client, name: bytes) -> None:
        self._client, self._name = client, name
        self._ffi, self._rados = client.ffi, client.rados

    def apply(self, changes: Mapping[str, bytes | None]) -> None:
        """Set keys, or (None) remove them, all at once or none."""
        wanted = {key: value for key, value in changes.items() if value is not None}
        gone = [key for key, value in changes.items() if value is None]
        op = self._rados.rados_create_write_op()
        try:
            keys, values = self._strings(map(str.encode, wanted)), self._strings(wanted.values())
            lengths = self._ffi.new("size_t[]", [len(value) for value in wanted.values()])
            if wanted:
                self._rados.rados_write_op_omap_set(op, keys[0], values[0], lengths, len(wanted))
            if gone:
                removed = self._strings(map(str.encode, gone))
                self._rados.rados_write_op_omap_rm_keys(op, removed[0], len(gone))
            result = self._rados.rados_write_op_operate(op, self._client.ioctx, self._name, self._ffi.NULL, 0)
            checked(result, f"the list {self._name.decode()}")
        finally:
            self._rados.rados_release_write_op(op)

    def remove(self) -> None:
        """The whole of it: a cluster that is full takes that, too."""
        result = self._rados.rados_remove(self._client.ioctx, self._name)
        if result != -errno.ENOENT:
            checked(result, f"the list {self._name.decode()}")

    def get(self, key: str) -> bytes | None:
        return self._page("", key, 1).get(key)

    def under(self, prefix: str) -> dict[str, bytes]:
        """The first hundreds of those keys."""
        return self._page("", prefix, NOTES_PAGE)

    def all(self) -> dict[str, bytes]:
        """Everything, some hundreds at a time: whoever changes it meanwhile may be seen in part."""
        found: dict[str, bytes] = {}
        while True:
            page = self._page(max(found, default=""), "", NOTES_PAGE)
            found |= page
            if len(page) < NOTES_PAGE:
                return found

    def _strings(self, texts: Iterable[bytes]) -> tuple[Any, list[Any]]:
        """An array of C strings, and what keeps them."""
        kept = [self._ffi.new("char[]", text) for text in texts]
        return self._ffi.new("const char *[]", kept), kept

    def _page(self, after: str, prefix: str, most: int) -> dict[str, bytes]:
        op = self._rados.rados_create_read_op()
        found, more, result = (self._ffi.new(kind) for kind in ("rados_omap_iter_t *", "unsigned char *", "int *"))
        try:
            self._rados.rados_read_op_omap_get_vals2(op, after.encode(), prefix.encode(), most, found, more, result)
            outcome = self._rados.rados_read_op_operate(op, self._client.ioctx, self._name, 0)
            if outcome == -errno.ENOENT:
                return {}
            checked(outcome, f"the list {self._name.decode()}")
            return dict(self._pairs(found[0]))
        finally:
            self._rados.rados_release_read_op(op)

    def _pairs(self, found: Any) -> Iterator[tuple[str, bytes]]:
        key, value, length = self._ffi.new("char **"), self._ffi.new("char **"), self._ffi.new("size_t *")
        try:
            while self._rados.rados_omap_get_next(found, key, value, length) == 0 and key[0] != self._ffi.NULL:
                yield self._ffi.string(key[0]).decode(), bytes(self._ffi.buffer(value[0], length[0]))
        finally:
            self._rados.rados_omap_get_end(found)


class Notes:
    """A table of facts, as JSON. OSError."""

    def __init__(self, client: Client, name: bytes) -> None:
        self._table = Table(client, name)

    def put(self, key: str, facts: dict[str, Any]) -> None:
        self._table.apply({key: json.dumps(facts).encode()})

    def remove(self, key: str) -> None:
        self._table.apply({key: None})

    def all(self) -> dict[str, dict[str, Any]]:
        values = {key: json.loads(value) for key, value in self._table.all().items()}
        return {key: facts if isinstance(facts, dict) else {} for key, facts in values.items()}
