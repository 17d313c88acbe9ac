"""Looking at the ownership record of a pool that somebody else serves: when its owner's lease is over, nobody moved it since."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from core.errors import PoolError
from core.image import ImageDevice, ImageMedium
from core.medium import FileMedium
from core.ownership import Record, State, boot_clock, same_sign
from target.volumes.owner import open_device

AGAIN_SECONDS = 10.0        # whoever was asked to decide, and was not the one, is asked again as long as nobody comes


class Watching:
    """The record of one pool. Its medium is opened anew when it could not be read."""

    def __init__(self, path: str | os.PathLike[str], clock: Callable[[], float] = boot_clock) -> None:
        self._path = path
        self._clock = clock
        self._medium: FileMedium | ImageMedium | None = None
        self._last: Record | None = None
        self._since_s = clock()
        self._told_s: float | None = None

    def ended(self) -> bool:
        """When the owner has been silent for longer than its lease, or has given the pool up; again every AGAIN_SECONDS."""
        try:
            found = Record.unpack(self._open().read_record())
        except (OSError, PoolError):
            self._medium = None
            return False                    # who cannot look knows nothing
        if not same_sign(found, self._last):
            self._last, self._since_s, self._told_s = found, self._clock(), None
        if found is None or (self._told_s is not None and self._clock() - self._told_s < AGAIN_SECONDS):
            return False
        silent = found.lease_ms > 0 and self._clock() - self._since_s > found.window_s
        if found.state is not State.GIVEN_UP and not silent:
            return False
        self._told_s = self._clock()
        return True

    def _open(self) -> FileMedium | ImageMedium:
        if self._medium is None:
            device = open_device(self._path, read_only=True, lock=False)
            if isinstance(device, ImageDevice):
                self._medium = ImageMedium(device)
            else:
                with contextlib.closing(device):
                    self._medium = FileMedium(device)       # it has a descriptor of its own
        return self._medium
