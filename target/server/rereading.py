"""The configuration read again while the daemon runs (SIGHUP): what changed, what of it counts at once, what needs a restart."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from typing import Any

from target.config import ServeConfig
from target.errors import LunetteError

log = logging.getLogger("lunette.config")

Apply = Callable[[Any], None]


class Rereading:
    """One daemon's configuration, and how to read it again. `live` says by field what a new value does at once."""

    def __init__(self, config: ServeConfig, read_again: Callable[[], ServeConfig] | None, live: Mapping[str, Apply],
                 certificates: Callable[[], None]) -> None:
        """Without `read_again` there is nothing to read. `certificates` reads those of the API, which change in their files."""
        self._config = config
        self._read_again = read_again
        self._live = live
        self._certificates = certificates

    def read(self) -> None:
        """Read it, do what can be done at once, and say what was done. What cannot be read changes nothing."""
        if self._read_again is None:
            log.warning("SIGHUP: there is no --config to read again, the daemon goes on; SIGTERM stops it")
            return
        try:
            wanted = self._read_again()
            self._certificates()
        except LunetteError as error:
            log.error("SIGHUP: the configuration stays as it was: %s", error)
            return
        done, waiting = [], []
        for field in dataclasses.fields(ServeConfig):
            before, after = getattr(self._config, field.name), getattr(wanted, field.name)
            if before == after:
                continue
            said = f"{field.name} {_shown(before)} -> {_shown(after)}"
            if field.name in self._live:
                self._live[field.name](after)
                self._config = dataclasses.replace(self._config, **{field.name: after})
                done.append(said)
            else:
                waiting.append(said)
        said = f"; changed: {', '.join(done)}" if done else ""
        said += f"; needs a restart: {', '.join(waiting)}" if waiting else ""
        log.info("SIGHUP: read again%s", said or "; nothing changed")


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
