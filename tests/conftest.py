"""For all tests: what is said of one that passed only the second time, and how property tests choose their examples.

Those have no deadline for one example, whatever else the machine does, and the same examples each time. LUNETTE_EXPLORE=1
tries others, as long runs do: what those find is for people, and no chance in anybody's change.
"""

import os

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("lunette", deadline=None, derandomize=not os.environ.get("LUNETTE_EXPLORE"),
                          suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("lunette")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say why a test failed that passed when it was run again: nothing else does."""
    for report in terminalreporter.getreports("rerun"):
        terminalreporter.write_sep("_", f"RERUN {report.nodeid}")
        terminalreporter.write_line(report.longreprtext)
        for name, text in report.sections:
            terminalreporter.write_sep("-", name)
            terminalreporter.write_line(text)
