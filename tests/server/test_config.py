"""Text forms that people type: sizes, portals, where the API socket is (target/config.py)."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from target.config import Portal, find_api_socket, format_size, parse_portal, parse_size
from target.errors import LunetteError


@pytest.mark.parametrize(("text", "size_bytes"), [
    ("0", 0), ("512", 512), ("4k", 4096), ("10G", 10 << 30), ("1.5T", 3 << 39), ("2MiB", 2 << 20), ("3 GB", 3 << 30),
    ("1P", 1 << 50),
])
def test_sizes_are_powers_of_1024(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "G", "-1G", "1X", "1e9", "0x10", "1G1", "99999999999P", "1.G", "١G" * 0 + "ten"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(LunetteError) as refused:
        parse_size(text)
    assert refused.value.code == "invalid"


@given(st.integers(0, (1 << 62) - 1))
def test_exact_sizes_round_trip(size_bytes: int) -> None:
    shown = format_size(size_bytes)
    if "." not in shown:
        assert parse_size(shown) == size_bytes


@pytest.mark.parametrize(("text", "portal"), [
    ("127.0.0.1", Portal("127.0.0.1", 3260)), ("127.0.0.1:99", Portal("127.0.0.1", 99)), (":99", Portal("0.0.0.0", 99)),
    ("*", Portal("0.0.0.0", 3260)), ("[::1]:99", Portal("::1", 99)), ("::1", Portal("::1", 3260)), ("[::]", Portal("::", 3260)),
    ("localhost:1", Portal("127.0.0.1", 1)), ("[fe80::1%eth0]:99", Portal("fe80::1%eth0", 99)),
    (":5", Portal("0.0.0.0", 5)), ("[::ffff:127.0.0.1]:5", Portal("127.0.0.1", 5)),
])
def test_portals(text: str, portal: Portal) -> None:
    assert parse_portal(text) == portal
    assert parse_portal(str(portal)) == portal


@pytest.mark.parametrize("text", ["", " ", ",2", "[]", "[]:5",
                                  "host:1", "1.2.3.4:70000", "1.2.3.4:x", "[::1", "::1]:5", "1.2.3", "a:b:c", "1.2.3.4:5,0",
                                  "1.2.3.4:5,65536", "1.2.3.4:5,", "1.2.3.4:5,x", "1.2.3.4:5,1,2", "[fe80::1]:5"])
def test_what_is_no_portal_is_refused(text: str) -> None:
    with pytest.raises(LunetteError):
        parse_portal(text)


def test_a_portal_may_name_its_group() -> None:
    assert parse_portal("1.2.3.4:5,2") == Portal("1.2.3.4", 5, 2)
    assert parse_portal("[::1],65535").group == 65535
    assert parse_portal("1.2.3.4").group == 1


def test_the_api_socket_is_found_in_the_documented_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LUNETTE_API", raising=False)
    monkeypatch.setattr("target.config.API_PLACES", ("run/api.sock", str(tmp_path / "system" / "api.sock")))
    assert find_api_socket(None) == str(tmp_path / "system" / "api.sock")
    (tmp_path / "run").mkdir()
    assert find_api_socket(None) == "run/api.sock"
    assert find_api_socket(None, serving=True) == "run/api.sock"
    monkeypatch.setenv("LUNETTE_API", "/x")
    assert find_api_socket(None) == "/x"
    assert find_api_socket("/y") == "/y"
