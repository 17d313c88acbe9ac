"""Certificates for the tests of TLS, made by openssl: a CA, a server's, clients' of this CA and of another."""

from __future__ import annotations

import subprocess
from pathlib import Path

KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


class Certificates:
    """In a directory. A client's name is its CN, and its OU, which is the scope where it is one; "stranger" is of another CA."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.ca, self._ca_key = self._authority("ca")
        self._other, self._other_key = self._authority("other")
        self.server = self._issued("server", "/CN=localhost", "subjectAltName=DNS:localhost,IP:127.0.0.1", self.ca, self._ca_key)

    def client(self, name: str) -> tuple[Path, Path]:
        """Certificate and key of a client."""
        ca, key = (self._other, self._other_key) if name == "stranger" else (self.ca, self._ca_key)
        return self._issued(name, f"/OU={name}/CN={name}", "extendedKeyUsage=clientAuth", ca, key)

    def _authority(self, name: str) -> tuple[Path, Path]:
        certificate, key = self._directory / f"{name}.pem", self._directory / f"{name}.key"
        _openssl("req", "-x509", *KEY, "-keyout", str(key), "-out", str(certificate), "-days", "30", "-subj", f"/CN={name}",
                 "-addext", "keyUsage=critical,keyCertSign,cRLSign")
        return certificate, key

    def _issued(self, name: str, subject: str, extension: str, ca: Path, ca_key: Path) -> tuple[Path, Path]:
        certificate, key = self._directory / f"{name}.pem", self._directory / f"{name}.key"
        if not certificate.exists():
            _openssl("req", "-x509", *KEY, "-keyout", str(key), "-out", str(certificate), "-days", "30", "-subj", subject,
                     "-addext", extension, "-addext", "basicConstraints=critical,CA:FALSE", "-CA", str(ca), "-CAkey", str(ca_key))
        return certificate, key


def _openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=30)
