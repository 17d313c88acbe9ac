"""A pool's medium in the hands of its one owner: acquired before the first write, renewed by a thread, guarded, given up.

The protocol is `core/ownership.py`'s; the rules and the table of states are in docs/ownership.md.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from core import fencing, ownership
from core.ceph import Table, explain, is_place
from core.device import FileDevice
from core.errors import PoolError
from core.image import FENCED, ImageDevice, ImageMedium, manifest_of
from core.medium import FileMedium, image_opener, is_shared, opener
from core.ownership import LostError, Opener, OwnedError, Ownership, Record, State, Verdict
from target.config import LEASE_SECONDS, ServeConfig
from target.errors import LunetteError
from target.volumes.clock import ClockWatch

log = logging.getLogger("lunette.owner")
D = TypeVar("D")

LINGER_SECONDS = 30.0       # what a process that is gone had in flight in this kernel is over after this long, on a busy machine
LINGER_LOOK_SECONDS = 0.1
SWEEP_SECONDS = 600         # what a blocked client had on its way to an OSD is over after this long, whatever hung meanwhile


def end_process(reason: str) -> None:
    """What a daemon does that has lost its pool: it hangs up, says why and ends; nothing more is answered or written."""
    from core.pool.engine import EXIT_LOST, hang_up

    hang_up()
    log.error("%s; this process ends without another answer or write", reason)
    os._exit(EXIT_LOST)


class Owned:
    """What a process owns, and for how long: the half of an owned device that is the same for every medium.

    `own` comes before anything else. `lost` is called once, on whatever thread notices that the pool is ours no more.
    """

    path: str
    _medium: Any                # core.ownership.Medium, and the medium's `close`
    fenced: frozenset[int] = frozenset()    # errors of a medium that say that it has another owner

    def _prepare(self, lease_s: float, lost: Callable[[str], None], stopping: threading.Event | None) -> None:
        self._lease_s = lease_s
        self._tell_lost = lost
        self._ownership: Ownership | None = None
        self._lost_reason = ""
        self._pool: Any = None
        self._stopping = stopping or threading.Event()
        self._keepers: list[threading.Thread] = []
        self._clock = ClockWatch()

    def own(self, *, takeover: bool = False) -> None:
        """Become the owner, and stay it until `close`. `takeover` as in `ownership.acquire`, and in `fencing.take`.

        LunetteError: locked, io_read, closed (the wait was ended); OSError EAGAIN where no thread can be started.
        """
        try:
            self._ownership = self._acquire(takeover)
        except (OwnedError, LostError) as error:
            raise refusal(self.path, error) from None
        except OSError as error:
            raise LunetteError("io_read", f"{self.path}: who serves the pool cannot be recorded: {error.strerror}") from None
        for name, renew in self._renewals().items():
            keeper = threading.Thread(target=self._keep, args=(renew,), name=name, daemon=True)
            try:
                keeper.start()
            except RuntimeError:
                raise OSError(errno.EAGAIN, "no thread can be started") from None
            self._keepers.append(keeper)

    def _acquire(self, takeover: bool) -> Ownership:
        raise NotImplementedError

    def _renewals(self) -> dict[str, Callable[[], object]]:
        """How it is shown again and again that the pool is ours, each in a thread of its own of that name."""
        mine = self._ownership
        assert mine is not None
        return {"lunette-owner": lambda: ownership.run(mine.renew(), self._medium)}

    def _pause(self, seconds: float) -> None:
        if self._stopping.wait(seconds):
            raise LunetteError("closed", f"{self.path}: stopped while waiting for its last owner")

    def _warn(self, found: Record | None, wait_s: float) -> None:
        assert found is not None
        log.warning("%s was last served by %s: taking over if it gives no sign for %.1f s", self.path, found.describe(), wait_s)

    @property
    def owner(self) -> Record | None:
        return self._ownership.record if self._ownership is not None else None

    @property
    def may_move(self) -> bool:
        """May the next owner be another machine? It has a lease if so."""
        return self._ownership is not None and self._ownership.record.lease_ms > 0

    @property
    def taken_from(self) -> int:
        """The process of this machine that the pool was taken from, since it had not given it up; 0: there is none."""
        mine = self._ownership
        before = mine.predecessor if mine is not None else None
        if mine is None or before is None or before.state is State.GIVEN_UP or before.boot != mine.record.boot:
            return 0
        return before.pid

    def announce(self, portals: Sequence[str]) -> None:
        """Tell where this owner serves, where there is a list of that."""

    def manifest(self) -> Table | None:
        """Where gateways that wait are told of the pool, where the medium has a place for that."""
        return None

    def attach(self, pool: Any) -> None:
        """The pool's reactors are to end the process when the lease is over."""
        self._pool = pool
        self._tell_deadline()

    def prove(self) -> None:
        """Return only if the pool is ours at this moment. OSError ESTALE, unless `lost` ends the process."""
        if self._ownership is not None and not self._lost_reason and not self._ownership.valid():
            self._lose(f"the ownership record of {self.path} was not renewed within {self._ownership.record.lease_s:g} s")
        if self._lost_reason:
            raise OSError(errno.ESTALE, self._lost_reason)

    def _keep(self, renew: Callable[[], object]) -> None:
        """A keeper's thread. It needs the interpreter for microseconds each time, and waits for the medium without it."""
        assert self._ownership is not None
        while not self._stopping.wait(self._ownership.renew_every_s):
            self._clock.look()
            try:
                renew()
                self._tell_deadline()
            except LostError as error:
                self._lose(f"{self.path}: {error}")
                return
            except OSError as error:
                if error.errno in self.fenced:
                    self._lose(f"{self.path}: {error.strerror}")
                    return
                log.warning("%s: the ownership record cannot be renewed: %s", self.path, error.strerror)

    def _tell_deadline(self) -> None:
        if self._pool is not None and self._ownership is not None and self._ownership.record.lease_ms:
            self._pool.lease(int(self._ownership.deadline_s * 1e6))

    def _lose(self, reason: str) -> None:
        self._lost_reason = reason
        self._tell_lost(reason)

    def _give_up(self) -> None:
        """Renew no more, and say that nobody owns the pool, if it is ours."""
        self._stopping.set()
        for keeper in self._keepers:
            keeper.join(self._lease_s)
        if self._ownership is not None and not self._lost_reason:
            try:
                ownership.run(self._ownership.release(), self._medium)
            except OSError as error:
                log.warning("%s: the ownership record cannot be given up: %s", self.path, error.strerror)
        self._medium.close()


class OwnedDevice(Owned, FileDevice):
    """A FileDevice that may be written only while this process owns what is on it.

    What another machine may reach is opened past the page cache, from which a write could come out when the pool is another's.
    """

    def __init__(self, path: str | os.PathLike[str], *, direct: bool = False, lease_s: float = LEASE_SECONDS,
                 lost: Callable[[str], None] = lambda reason: None, stopping: threading.Event | None = None) -> None:
        """PoolError as FileDevice. `stopping`, once set, ends `own` while it waits, and the renewals."""
        FileDevice.__init__(self, path, direct=direct or _direct_wanted(path))
        self._prepare(lease_s, lost, stopping)
        try:
            self._medium = FileMedium(self)
        except OSError as error:
            FileDevice.close(self)
            raise PoolError("io_read", f"cannot open {self.path}: {error.strerror}") from None

    def _acquire(self, takeover: bool) -> Ownership:
        me = opener(self, self._lease_s)
        found = Record.unpack(self._medium.read_record())
        if found is not None and ownership.judge(found, me) is Verdict.WATCH:
            self._warn(found, found.window_s)
        return ownership.run(ownership.acquire(me, takeover=takeover), self._medium, self._pause)

    def write(self, offset_bytes: int, data: bytes) -> None:
        self.prove()
        super().write(offset_bytes, data)

    def discard(self, offset_bytes: int, length_bytes: int) -> None:
        self.prove()
        super().discard(offset_bytes, length_bytes)

    def enlarge(self, size_bytes: int) -> None:
        self.prove()
        super().enlarge(size_bytes)

    def close(self) -> None:
        """Give the pool up, if it is ours, and close."""
        if self._fd >= 0:
            self._give_up()
            super().close()


class OwnedImage(Owned, ImageDevice):
    """An ImageDevice that may be written only while this process owns it. Others are blocked by the cluster before it does."""

    fenced = FENCED

    def __init__(self, path: str | os.PathLike[str], *, direct: bool = False, lease_s: float = LEASE_SECONDS,
                 lost: Callable[[str], None] = lambda reason: None, stopping: threading.Event | None = None) -> None:
        """PoolError as ImageDevice. `direct` says nothing here: there is no page cache."""
        ImageDevice.__init__(self, path)
        self._prepare(lease_s, lost, stopping)
        self._medium = ImageMedium(self)
        self._epoch = -1
        self._portals: list[str] = []

    def _acquire(self, takeover: bool) -> Ownership:
        me = image_opener(self.client.address(), self._lease_s)
        found = Record.unpack(self._medium.read_record())
        if found is not None and found.state is not State.GIVEN_UP and not takeover:
            self._warn(found, found.window_s)
        return fencing.run(fencing.take(me, takeover=takeover), self._medium, self._pause)

    def _renewals(self) -> dict[str, Callable[[], object]]:
        """The record lies on one OSD, which may hang; the monitors know as well whether this client was blocked."""
        return {**super()._renewals(), "lunette-monitor": self._ask_monitors}

    def announce(self, portals: Sequence[str]) -> None:
        mine = self.owner
        assert mine is not None
        self._portals = list(portals)
        self._list(mine, "active")
        with contextlib.suppress(RuntimeError):     # where no thread can be started, another time
            sweeper = threading.Thread(target=self._sweep, name="lunette-sweep", daemon=True)
            sweeper.start()
            self._keepers.append(sweeper)

    def _sweep(self) -> None:
        """Unblock those that are known to be dead. Each takes the monitors a second, so nobody waits for that."""
        me = image_opener(self.client.address(), self._lease_s)
        self.client.sweep(lambda facts: not self._stopping.is_set() and gone(facts, me))

    def manifest(self) -> Table | None:
        return manifest_of(self)

    def _list(self, mine: Record, state: str) -> None:
        """For people to look at, so it may fail."""
        try:
            self.client.gateways.put(self.place.image, {
                "client": mine.client, "host": mine.host, "pid": mine.pid, "since_s": mine.since_us // 1_000_000,
                "portals": self._portals, "state": state})
        except OSError as error:
            log.warning("%s: who serves the pool cannot be listed: %s", self.path, error.strerror)

    def _ask_monitors(self) -> None:
        assert self._ownership is not None
        begun_s = ownership.boot_clock()
        epoch = self.client.epoch()
        if epoch != self._epoch and self.client.address() in self.client.blocked():
            raise OSError(errno.ESHUTDOWN, explain(errno.ESHUTDOWN))
        self._epoch = epoch
        self._ownership.proven(begun_s)

    def write(self, offset_bytes: int, data: bytes) -> None:
        self.prove()
        with self._refused():
            super().write(offset_bytes, data)

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        with self._refused():
            return super().read(offset_bytes, length_bytes)

    def discard(self, offset_bytes: int, length_bytes: int) -> None:
        self.prove()
        with self._refused():
            super().discard(offset_bytes, length_bytes)

    def enlarge(self, size_bytes: int) -> None:
        self.prove()
        super().enlarge(size_bytes)

    @contextlib.contextmanager
    def _refused(self) -> Iterator[None]:
        """Who is refused by the cluster has lost the pool, and says nothing of an error."""
        try:
            yield
        except OSError as error:
            if error.errno in FENCED and self._ownership is not None and not self._lost_reason:
                self._lose(f"{self.path}: {error.strerror}")
            raise

    def close(self) -> None:
        """Give the pool up, if it is ours, and close."""
        if self.image is not None:
            if self.owner is not None and self._portals and not self._lost_reason:
                self._list(self.owner, "given up")
            self._give_up()
            super().close()


def gone(facts: dict[str, Any], me: Opener) -> bool:
    """Is the process that a blocked client was known dead, and are its last requests long over?"""
    if facts.get("boot") != me.boot.hex() or facts.get("pid_namespace") != me.pid_namespace or not me.pid_namespace:
        return False
    aged = time.time() - float(facts.get("blocked_s", time.time())) > SWEEP_SECONDS
    return aged and not me.alive(int(facts.get("pid", 0)), int(facts.get("started", 0)))


def open_device(path: str | os.PathLike[str], **options: Any) -> FileDevice | ImageDevice:
    """A pool's medium to look at, by what its path says. PoolError."""
    if is_place(path):
        return ImageDevice(path, **options)
    return FileDevice(path, **options)


class Opening:
    """An OwnedDevice being opened and owned beside what else a start has to do: it waits more than it works."""

    def __init__(self, path: str | os.PathLike[str], *, takeover: bool = False, **options: Any) -> None:
        self._device: OwnedDevice | OwnedImage | None = None
        self._error: BaseException | None = None
        self._stopping = threading.Event()

        def work() -> None:
            try:
                self._device = open_owned(path, takeover=takeover, stopping=self._stopping, **options)
            except BaseException as error:
                self._error = error

        self._thread: threading.Thread | None = threading.Thread(target=work, name="lunette-open", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:            # the system allows no more threads, which others say better
            self._thread = None
            work()

    def device(self) -> OwnedDevice | OwnedImage:
        """Wait for it. LunetteError as `open_owned`."""
        self.wait()
        if self._error is not None:
            raise self._error
        assert self._device is not None
        return self._device

    def give_up(self) -> None:
        """It is not wanted any more."""
        self._stopping.set()
        self.wait()
        if self._device is not None:
            self._device.close()

    def wait(self) -> None:
        """Return when it is over, one way or the other."""
        if self._thread is not None:
            self._thread.join()


def begin(config: ServeConfig) -> Opening:
    """Begin to own a pool that is to be served."""
    return Opening(config.pool_path, direct=config.direct, takeover=config.takeover, lease_s=config.lease_seconds,
                   lost=end_process)


def open_owned(path: str | os.PathLike[str], *, takeover: bool = False, own: bool = True,
               **options: Any) -> OwnedDevice | OwnedImage:
    """Open and, unless that comes later, own. LunetteError: not_found, locked, invalid, io_read."""
    device: OwnedDevice | OwnedImage = opened(
        lambda: (OwnedImage if is_place(path) else OwnedDevice)(path, **options), path, options.get("stopping"))
    try:
        if own:
            device.own(takeover=takeover)
    except BaseException:
        device.close()
        raise
    return device


def opened(make: Callable[[], D], path: str | os.PathLike[str], stopping: threading.Event | None = None) -> D:
    """What `make` opens for this process alone. LunetteError with its code and, where the pool is locked, who has it.

    A process that is gone keeps its lock until the kernel has finished what it had in flight: that is waited for.
    """
    give_up_s, stopping = time.monotonic() + LINGER_SECONDS, stopping or threading.Event()
    while True:
        try:
            return make()
        except PoolError as error:
            holder = _holder(path) if error.code == "locked" else None
            lingers = holder is not None and holder[1] is Verdict.GONE
            if not lingers or time.monotonic() > give_up_s or stopping.wait(LINGER_LOOK_SECONDS):
                raise LunetteError(error.code, f"{error}: {holder[0].describe()}" if holder else str(error)) from None


def _holder(path: str | os.PathLike[str]) -> tuple[Record, Verdict] | None:
    """Whom the record of a pool names that somebody else has locked, and what is to be thought of it."""
    with contextlib.suppress(OSError, PoolError):
        device = FileDevice(path, read_only=True, lock=False)
        try:
            medium = FileMedium(device)
            found = Record.unpack(medium.read_record())
            medium.close()
            if found is not None and found.state is not State.GIVEN_UP:
                return found, ownership.judge(found, opener(device, LEASE_SECONDS))
        finally:
            device.close()
    return None


def look(device: FileDevice | ImageDevice) -> str:
    """Who may own the pool on a device that was opened to read: "" for nobody. LunetteError locked when somebody surely does."""
    try:
        if isinstance(device, ImageDevice):
            fencing.run(fencing.observe(image_opener(device.client.address(), LEASE_SECONDS)), ImageMedium(device))
            return ""
        medium = FileMedium(device)
        try:
            ownership.run(ownership.observe(opener(device, LEASE_SECONDS)), medium)
        finally:
            medium.close()
    except OwnedError as error:
        if error.verdict is Verdict.HELD:
            raise refusal(device.path, error) from None
        return f"last served by {error.record.describe()}, which cannot be seen from here"
    except OSError as error:
        if isinstance(device, ImageDevice):
            raise LunetteError("io_read", f"{device.path}: who serves the pool cannot be known: {error.strerror}") from None
        # it can be read or not: what comes next says so better
    return ""


def refusal(path: str, error: OwnedError | LostError) -> LunetteError:
    """Why the pool cannot be had, and what to do."""
    if isinstance(error, LostError):
        return LunetteError("locked", f"{path}: {error}: its medium is too slow, or another process took it meanwhile; try again")
    if error.verdict is Verdict.UNKNOWN:
        return LunetteError("locked", f"{path} was last served by {error.record.describe()}, which cannot be seen from here; "
                                      "--takeover if it is gone for certain")
    return LunetteError("locked", f"{path} is in use: {error.record.describe()}, serves its pool")


def _direct_wanted(path: str | os.PathLike[str]) -> bool:
    """Must the page cache be passed by, and can it be?"""
    try:
        if stat.S_ISBLK(Path(path).stat().st_mode):
            return True
        fd = os.open(path, os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False            # what is wrong with it is said by who opens it
    try:
        return is_shared(fd)
    finally:
        os.close(fd)
