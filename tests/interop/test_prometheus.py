"""Debian's Prometheus against the TLS listener: it scrapes with a token, and without one it does not."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.interop.conftest import Start
from tests.support.certificates import Certificates
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE_SECONDS, until


def job(name: str, port: int, ca: Path, token: str) -> str:
    return (f"  - job_name: {name}\n    scheme: https\n    tls_config: {{ca_file: {ca}}}\n"
            f"    authorization: {{credentials: '{token}'}}\n"
            f"    static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n")


@pytest.mark.needs("prometheus", "openssl")
def test_prometheus_scrapes_by_tls_with_a_token(start: Start, tmp_path: Path) -> None:
    certificates, port, web = Certificates(tmp_path), free_port(), free_port()
    daemon = start("--api-listen", f"127.0.0.1:{port}", "--tls-cert", str(certificates.server[0]), "--tls-key",
                   str(certificates.server[1]))
    token = daemon.cli("token", "create", "prometheus", "--scope", "read").strip()
    daemon.cli("create", "v", "--size", "1M")
    jobs = job("good", port, certificates.ca, token) + job("bad", port, certificates.ca, "none")
    (tmp_path / "prometheus.yml").write_text(f"global: {{scrape_interval: 2s, scrape_timeout: 2s}}\nscrape_configs:\n{jobs}")
    process = subprocess.Popen(["prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/tsdb",
                                f"--web.listen-address=127.0.0.1:{web}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def query(text: str) -> list[dict[str, Any]]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{web}/api/v1/query?query={text}", timeout=PATIENCE_SECONDS) as answer:
                found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
                return found
        except OSError:
            return []

    try:
        until(lambda: {row["metric"]["job"]: row["value"][1] for row in query("up")} == {"good": "1", "bad": "0"})
        until(lambda: [row["metric"]["job"] for row in query("lunette_volume_size_bytes")] == ["good"])
        assert [row["value"][1] for row in query("up{job='bad'}")] == ["0"]
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)
