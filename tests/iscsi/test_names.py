"""iSCSI names have one normal form, whatever form they were written in (RFC 7143 §4.2.7; RFC 3722)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from target.iscsi import Credentials, LoginFailed, LoginStatus, normalize_name, same_name
from target.iscsi.chap import ChapExchange, response
from target.iscsi.text import TextError
from tests.support.initiator import INITIATOR, TARGET, Door, Initiator, make_policy

PREFIX = "iqn.2026-01.test:"

FORMS = [  # (as written, the normal form), without the prefix
    ("Host", "host"),
    ("\uff28ost", "host"),                       # a full-width H
    ("caf\u00e9", "caf\u00e9"),
    ("cafe\u0301", "caf\u00e9"),                 # composed
    ("\ufb01le", "file"),                        # a ligature
    ("stra\u00dfe", "strasse"),                  # folded, not only lower case
    ("\u03c3\u03c2", "\u03c3\u03c3"),            # two sigmas
    ("a\u00adb\u200dc\ufeffd", "abcd"),          # invisible ones go
    ("\u2167", "viii"),
    ("x_y+z/w", "x_y+z/w"),                      # kept: RFC 3722 would refuse them, hosts have them
]


@pytest.mark.parametrize(("written", "normal"), FORMS)
def test_a_name_has_one_form(written: str, normal: str) -> None:
    assert normalize_name(PREFIX + written) == PREFIX + normal
    assert normalize_name("IQN" + PREFIX[3:] + written) == PREFIX + normal
    assert same_name(PREFIX + written, PREFIX + normal)


@pytest.mark.parametrize("bad", [
    "a b", "a,b", "a\x00b", "a\x7fb", "a\u00a0b", "a\uff0cb", "a\u3002b", "a\ue000b", "a\ufffdb", "a\u2028b", "a" + chr(0xD800),
    "a\u0378b", "\u1e9e", "\U0001f600", "\u05d0", "a\u202eb", "\u0627", "x" * 223,
])
def test_what_has_no_normal_form_is_refused_in_one_line(bad: str) -> None:
    with pytest.raises(TextError) as refused:
        normalize_name(PREFIX + bad)
    assert str(refused.value).isascii()
    assert str(refused.value).isprintable()
    assert not same_name(PREFIX + bad, PREFIX + "x")


@pytest.mark.parametrize("bad", ["", "iqn.", "iqn", "host", "IQM.2026-01.test:a", "\u00ecqn.2026-01.test:a"])
def test_a_name_says_its_type(bad: str) -> None:
    with pytest.raises(TextError):
        normalize_name(bad)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_the_normal_form_is_its_own(text: str) -> None:
    try:
        name = normalize_name(PREFIX + text)
    except TextError:
        return
    assert normalize_name(name) == name


def test_the_normal_form_of_each_character_is_its_own() -> None:
    """Cherokee, Georgian: capitals whose small letters Unicode has had since 3.2 only."""
    for char in (char for char in map(chr, range(0x110000)) if char.lower() != char):
        try:
            name = normalize_name(PREFIX + char)
        except TextError:
            continue
        assert normalize_name(name) == name, ascii(char)


def test_an_initiator_is_known_by_its_normal_form_at_the_door() -> None:
    asked: list[str] = []

    class Asking(Door):
        def credentials_for(self, initiator_name, session_type):  # type: ignore[no-untyped-def]
            asked.append(initiator_name)
            return super().credentials_for(initiator_name, session_type)

    it = Initiator(make_policy(Asking()))
    it.login({"InitiatorName": INITIATOR + "\uff28\u00adst", "TargetName": TARGET})
    assert asked == [INITIATOR + "hst"]


def test_a_login_by_a_name_that_has_no_form_is_an_initiator_error_and_names_it_escaped() -> None:
    it = Initiator(make_policy())
    it.login({"InitiatorName": PREFIX + "a\u3002b", "TargetName": TARGET})
    assert isinstance(it.event, LoginFailed)
    assert it.event.status is LoginStatus.INITIATOR_ERROR
    assert "a\\u3002b" in it.event.reason
    assert "U+3002" in it.event.reason


@pytest.mark.parametrize(("configured", "sent", "good"), [
    (PREFIX + "Web", PREFIX + "web", True), (PREFIX + "\ufb01", PREFIX + "fi", True), ("alice", "alice", True),
    ("alice", "Alice", False), (PREFIX + "a", PREFIX + "b", False)])
def test_a_chap_name_that_is_an_iscsi_name_is_compared_as_one(configured: str, sent: str, *, good: bool) -> None:
    exchange = ChapExchange(Credentials(name=configured, secret=b"a secret of ours"), (5,))
    asked = dict(exchange.answer({"CHAP_A": "5"}))
    proof = response(5, int(asked["CHAP_I"]), b"a secret of ours", bytes.fromhex(asked["CHAP_C"][2:]))
    if good:
        exchange.answer({"CHAP_N": sent, "CHAP_R": "0x" + proof.hex()})
        assert exchange.done
    else:
        with pytest.raises(Exception, match="wrong CHAP name"):
            exchange.answer({"CHAP_N": sent, "CHAP_R": "0x" + proof.hex()})
