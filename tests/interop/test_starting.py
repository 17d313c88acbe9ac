"""Starting where the system gives little, and signals that are no wish to stop (docs/operations.md)."""

from __future__ import annotations

import signal
import time

from tests.interop.conftest import Start


def test_a_terminal_that_hangs_up_does_not_end_the_daemon(start: Start) -> None:
    daemon = start()
    assert daemon.process is not None
    for _ in range(3):
        daemon.process.send_signal(signal.SIGHUP)
    daemon.cli("create", "v", "--size", "1M")
    deadline = time.monotonic() + 10
    while "SIGHUP" not in daemon.log.read_text() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert "the daemon goes on" in daemon.log.read_text()
    assert daemon.stop() == 0
