"""Key=value text and the key table: grammar, limits, and every result function against a model of it (RFC 7143 §6, §13)."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from target.iscsi import Limits
from target.iscsi.keys import KEYS, TABLE, Result, Use, ValueType
from target.iscsi.negotiation import Negotiation, NegotiationError, first_burst_length, our_values
from target.iscsi.text import (
    MAX_BINARY_BYTES,
    MAX_VALUE_BYTES,
    TextCollector,
    TextError,
    build_pairs,
    format_binary,
    parse_binary,
    parse_boolean,
    parse_list,
    parse_number,
    parse_pairs,
)

# -- text ----------------------------------------------------------------------------------------------------------------

keys = st.from_regex(r"[A-Z][A-Za-z0-9.\-+@_]{0,62}", fullmatch=True)
values = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=60)


@given(st.dictionaries(keys, values, max_size=10), st.integers(1, 50))
def test_pairs_survive_the_wire_in_any_pieces(pairs, step):
    wire = build_pairs(pairs.items())
    collector = TextCollector()
    whole = None
    for at in range(0, max(len(wire), 1), step):
        assert whole is None
        whole = collector.add(wire[at : at + step], at + step < len(wire))
    assert whole == wire
    assert parse_pairs(whole) == pairs
    assert len(collector) == 0


@given(st.binary(max_size=200))
def test_random_text_never_surprises(data):
    try:
        pairs = parse_pairs(data)
    except TextError:
        pass
    else:
        assert all(re.fullmatch(r"[A-Za-z][A-Za-z0-9.\-+@_]{0,62}", key) for key in pairs)


def test_padding_counted_into_the_text_is_harmless():
    assert parse_pairs(b"A=1\0\0\0B=\0\0") == {"A": "1", "B": ""}


@pytest.mark.parametrize(
    "text",
    [b"A=1", b"A\0", b"=1\0", b"1A=1\0", b"A b=1\0", b"A=\xff\0", b"A=\x1b\0", b"A=1\0A=2\0", b"A" * 64 + b"=1\0"],
)
def test_bad_grammar(text):
    with pytest.raises(TextError):
        parse_pairs(text)


def test_value_bound():
    assert parse_pairs(b"A=" + b"x" * MAX_VALUE_BYTES + b"\0")
    with pytest.raises(TextError):
        parse_pairs(b"A=" + b"x" * (MAX_VALUE_BYTES + 1) + b"\0")


def test_collector_bound():
    collector = TextCollector(10)
    assert collector.add(b"12345", True) is None
    with pytest.raises(TextError):
        collector.add(b"123456", True)
    assert len(collector) == 0


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("18446744073709551615", 2**64 - 1), ("0x1F", 31), ("0Xff", 255), ("0bAQA=", 256), ("0x" + "0" * 63 + "1", 1)],
)
def test_numbers(text, number):
    assert parse_number(text) == number


@pytest.mark.parametrize(
    "text",
    ["", "-1", "+1", "01", "1 ", " 1", "1.0", "18446744073709551616", "0x", "0xg", "x1", "٣", "0b", "0b=", "1_000",
     "0x1" + "0" * 16, "9" * 1000, "0x" + "1" * 9000],
)  # fmt: skip
def test_what_is_no_number(text):
    with pytest.raises(TextError):
        parse_number(text)


@given(st.binary(min_size=1, max_size=MAX_BINARY_BYTES))
def test_binary_round_trip(data):
    assert parse_binary(format_binary(data)) == data


@pytest.mark.parametrize("text", ["", "0x", "0x1", "0xzz", "0b", "0bA", "0bA===", "abcd", "0x" + "00" * 1025, "0b" + "A" * 1400])
def test_what_is_no_binary(text):
    with pytest.raises(TextError):
        parse_binary(text)


def test_booleans_and_lists():
    assert (parse_boolean("Yes"), parse_boolean("No")) == (True, False)
    for text in ("yes", "NO", "", "1"):
        with pytest.raises(TextError):
            parse_boolean(text)
    assert parse_list("a,b") == ("a", "b")
    for text in ("", "a,", ",a", "a,,b", "x" * 256):
        with pytest.raises(TextError):
            parse_list(text)


# -- the table -----------------------------------------------------------------------------------------------------------

RFC_KEYS = {
    "AuthMethod", "CHAP_A", "CHAP_C", "CHAP_I", "CHAP_N", "CHAP_R", "DataDigest", "DataPDUInOrder", "DataSequenceInOrder",
    "DefaultTime2Retain", "DefaultTime2Wait", "ErrorRecoveryLevel", "FirstBurstLength", "HeaderDigest", "IFMarkInt",
    "IFMarker", "ImmediateData", "InitialR2T", "InitiatorAlias", "InitiatorName", "MaxBurstLength", "MaxConnections",
    "MaxOutstandingR2T", "MaxRecvDataSegmentLength", "OFMarkInt", "OFMarker", "SendTargets", "SessionType", "TargetAddress",
    "TargetAlias", "TargetName", "TargetPortalGroupTag", "TaskReporting", "iSCSIProtocolLevel",
}  # fmt: skip


def test_the_table_has_every_key_once():
    assert set(KEYS) == RFC_KEYS
    assert len(TABLE) == len(KEYS)


def test_the_table_is_whole():
    ours = our_values(Limits())
    for spec in TABLE:
        assert re.fullmatch(r"RFC 71(43|44) §\d+\.\d+(\.\d+)?", spec.clause)
        negotiated = spec.result in (Result.AND, Result.OR, Result.MIN, Result.MAX, Result.FIRST_COMMON)
        assert negotiated == (spec.name in ours)
        if negotiated:
            assert spec.default
        if spec.type is ValueType.NUMBER and spec.maximum:
            assert spec.minimum <= int(spec.default) <= spec.maximum


limits = st.builds(
    Limits,
    max_burst_length=st.integers(512, 2**24 - 1),
    first_burst_length=st.integers(512, 2**24 - 1),
    max_outstanding_r2t=st.integers(1, 65535),
    max_connections=st.integers(1, 65535),
    error_recovery_level=st.integers(0, 2),
    initial_r2t=st.booleans(),
    immediate_data=st.booleans(),
    default_time2wait_seconds=st.integers(0, 3600),
    default_time2retain_seconds=st.integers(0, 3600),
)
MODEL = {Result.AND: lambda a, b: a and b, Result.OR: lambda a, b: a or b, Result.MIN: min, Result.MAX: max}
NEGOTIATED = [spec for spec in TABLE if spec.result in MODEL]


@st.composite
def offers(draw: st.DrawFn) -> dict[str, str]:
    chosen = draw(st.permutations(NEGOTIATED))[: draw(st.integers(0, len(NEGOTIATED)))]
    return {
        spec.name: draw(st.sampled_from(("Yes", "No")))
        if spec.type is ValueType.BOOLEAN
        else str(draw(st.integers(spec.minimum, spec.maximum)))
        for spec in chosen
    }


@given(limits, offers(), st.data())
def test_negotiation_commutes_with_the_table(ours, offered, data):
    """Whatever the order and the grouping, each key ends as the table's result function says."""
    together = Negotiation(ours)
    answers = together.answer(offered)
    assert [key for key, _ in answers] == list(offered)
    one_by_one = Negotiation(ours)
    for key in data.draw(st.permutations(list(offered))):
        one_by_one.answer({key: offered[key]})
    for spec in NEGOTIATED:
        default = spec.default == "Yes" if spec.type is ValueType.BOOLEAN else int(spec.default)
        expected = default
        if spec.name in offered:
            theirs = offered[spec.name] == "Yes" if spec.type is ValueType.BOOLEAN else int(offered[spec.name])
            expected = MODEL[spec.result](theirs, our_values(ours)[spec.name])
        if spec.name != "FirstBurstLength":
            assert together[spec.name] == one_by_one[spec.name] == expected
            continue
        bounded = min(expected, together["MaxBurstLength"])
        assert first_burst_length(together) == first_burst_length(one_by_one) == bounded
        assert dict(answers).get("FirstBurstLength", str(bounded)) == str(bounded)


ALL_TEXT = st.dictionaries(
    st.one_of(st.sampled_from(sorted(RFC_KEYS)), keys),
    st.one_of(
        st.sampled_from(["Yes", "No", "0", "1", "0x200", "None", "CRC32C", "CRC32C,None", "Reject", "NotUnderstood", ""]),
        st.integers(-1, 2**70).map(str),
        values,
    ),
    max_size=12,
)


@given(ALL_TEXT, st.booleans(), st.booleans())
def test_any_text_is_answered_or_refused(pairs, leading, discovery):
    negotiation = Negotiation(Limits(), leading=leading, discovery=discovery)
    try:
        answers = negotiation.answer(pairs)
    except NegotiationError:
        return
    for key, value in answers:
        assert key in pairs
        assert 1 <= len(value) <= 255


@pytest.mark.parametrize(
    ("key", "value", "answer"),
    [
        ("HeaderDigest", "None,CRC32C", "None"),
        ("HeaderDigest", "CRC32C,None", "CRC32C"),
        ("DataDigest", "X-mine,CRC32C", "CRC32C"),
        ("DataDigest", "X-mine", "Reject"),
        ("TaskReporting", "FastAbort,ResponseFence,RFC3720", "RFC3720"),
        ("TaskReporting", "FastAbort", "Reject"),
        ("iSCSIProtocolLevel", "2", "2"),
        ("ErrorRecoveryLevel", "2", "1"),
        ("ErrorRecoveryLevel", "1", "1"),
        ("ErrorRecoveryLevel", "0", "0"),
        ("ErrorRecoveryLevel", "3", "Reject"),
        ("MaxBurstLength", "511", "Reject"),
        ("MaxBurstLength", "0x10000", "65536"),
        ("ImmediateData", "yes", "Reject"),
        ("IFMarker", "No", "No"),
        ("OFMarker", "Yes", "No"),
        ("OFMarker", "7", "Reject"),
        ("IFMarkInt", "2048~8192", "Reject"),
        ("OFMarkInt", "2048~8192", "Reject"),
        ("SendTargets", "All", "Reject"),
        ("X-org.example.key", "1", "NotUnderstood"),
        ("RDMAExtensions", "Yes", "NotUnderstood"),
    ],
)
def test_single_answers(key, value, answer):
    assert Negotiation(Limits()).answer({key: value}) == [(key, answer)]


def test_session_wide_keys_are_for_the_leading_connection():
    negotiation = Negotiation(Limits(), leading=False)
    for spec in TABLE:
        if spec.use is Use.LEADING and spec.result in MODEL:
            assert negotiation.answer({spec.name: spec.default}) == [(spec.name, "Reject")]


def test_our_segment_length_is_declared_once():
    negotiation = Negotiation(Limits(max_recv_data_segment_length=65536))
    assert negotiation.target_max_recv_data_segment_length == 8192
    assert negotiation.declarations() == [("MaxRecvDataSegmentLength", "65536")]
    assert negotiation.declarations() == []
    assert negotiation.target_max_recv_data_segment_length == 65536
