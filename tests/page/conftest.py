"""A daemon with TLS, a token and some objects, and a browser that looks at its page."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import Certificates
from tests.support.daemon import DaemonProcess, free_port

CHROMIUM = shutil.which("chromium")
ROOT = Path(__file__).parents[2]
AXE = ROOT / "build" / "axe" / "axe.min.js"
LINES = """create web --size 10G --label tier=gold
create db --size 50G
snapshot web@monday
clone web@monday web-test
snapshot web@tuesday
snapshot web-test@try
hold web@tuesday audit
host create hypervisor iqn.2026-01.test:hypervisor
schedule create nightly --select web* --cron '30 2 * * *' --keep daily=14
"""


class Site:
    """The daemon, where its page is, and a token that may do everything."""

    def __init__(self, directory: Path) -> None:
        certificates = Certificates(directory)
        port = free_port()
        self.url = f"https://127.0.0.1:{port}"
        self._trust = ssl.create_default_context(cafile=str(certificates.ca))
        self.daemon = DaemonProcess(directory, "--api-listen", f"127.0.0.1:{port}", "--tls-cert", str(certificates.server[0]),
                                    "--tls-key", str(certificates.server[1]), size="1G").start()
        self.token = self.make_token("page", "admin")
        self.daemon.cli("batch", stdin=LINES)

    def make_token(self, name: str, scope: str, *more: str) -> str:
        return self.daemon.cli("token", "create", name, "--scope", scope, *more).strip()

    def get(self, path: str) -> Any:
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {self.token}"})
        with urllib.request.urlopen(request, context=self._trust, timeout=60) as answer:
            return json.load(answer)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests in a browser are run by `make page` alone: Playwright keeps an event loop running in its thread, where no other
    test could run its own."""
    missing = None
    try:
        import playwright  # noqa: F401
    except ImportError:
        missing = "playwright is not installed (make page)"
    if not CHROMIUM or not shutil.which("openssl"):
        missing = "chromium or openssl is not installed (make page)"
    if not os.environ.get("LUNETTE_PAGE"):
        missing = "make page runs it"
    for item in items:
        if missing and Path(item.fspath).parent == Path(__file__).parent:
            item.add_marker(pytest.mark.skip(reason=missing))


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("site"))
    yield made
    made.daemon.close()


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


class Watched:
    """A tab, and what it complained of and asked for."""

    def __init__(self, tab: Any, site: Site) -> None:
        self.tab = tab
        self.site = site
        self.complaints: list[str] = []
        self.asked: list[str] = []
        tab.on("console", lambda message: self.complaints.append(message.text) if message.type in ("error", "warning") else None)
        tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        tab.on("request", lambda request: self.asked.append(request.url))

    def sign_in(self, token: str = "") -> None:
        self.tab.goto(self.site.url + "/")
        self.tab.get_by_label("Token").fill(token or self.site.token)
        self.tab.get_by_role("button", name="Sign in").click()

    def part(self, name: str) -> None:
        self.tab.get_by_role("navigation").get_by_role("link", name=name).click()
        self.tab.get_by_role("heading", name=name, level=2).wait_for()


@pytest.fixture
def visit(browser: Any, site: Site) -> Iterator[Callable[..., Watched]]:
    """Open a tab of a width, in a theme."""
    contexts = []

    def open_(width: int = 1200, height: int = 800, theme: str = "light") -> Watched:
        context = browser.new_context(ignore_https_errors=True, viewport={"width": width, "height": height}, color_scheme=theme)
        context.set_default_timeout(60000)
        contexts.append(context)
        return Watched(context.new_page(), site)

    yield open_
    for context in contexts:
        context.close()
