"""The handshake, without sockets: options answered as the specification says, whatever a client sends."""

from __future__ import annotations

import random
import struct

import pytest

from target.nbd import codes
from target.nbd.codes import Info, Option, OptionReply
from target.nbd.handshake import MAX_OPTION_BYTES, MAX_OPTIONS, Export, Handshake, Phase, ProtocolError

EXPORT = Export("v@b", 1 << 20, ("base:allocation", "qemu:dirty-bitmap:a"), "about it")


def begun(flags: int = 3) -> Handshake:
    handshake = Handshake(EXPORT)
    assert handshake.output() == b"NBDMAGICIHAVEOPT\0\x03"
    handshake.receive(struct.pack(">I", flags))
    return handshake


def option(number: int, data: bytes = b"") -> bytes:
    return codes.OPTION.pack(codes.OPTION_MAGIC, number, len(data)) + data


def replies(handshake: Handshake, number: int, data: bytes = b"") -> list[tuple[int, bytes]]:
    """Reply types and their data."""
    handshake.receive(option(number, data))
    raw, found = handshake.output(), []
    while raw:
        magic, to, reply, length = codes.OPTION_REPLY.unpack_from(raw)
        assert (magic, to) == (codes.OPTION_REPLY_MAGIC, number)
        found.append((reply, raw[20:20 + length]))
        raw = raw[20 + length:]
    return found


def text(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def queries(name: bytes, *wanted: bytes) -> bytes:
    return text(name) + struct.pack(">I", len(wanted)) + b"".join(map(text, wanted))


def test_go_tells_size_flags_and_block_sizes_then_goes():
    handshake = begun()
    found = replies(handshake, Option.GO, text(b"v@b") + struct.pack(">HHH", 2, Info.NAME, Info.DESCRIPTION))
    assert found == [(OptionReply.INFO, struct.pack(">HQH", 0, 1 << 20, 1 | 2 | 128 | 256)), (OptionReply.INFO, b"\0\1v@b"),
                     (OptionReply.INFO, b"\0\2about it"), (OptionReply.INFO, struct.pack(">HIII", 3, 1, 4096, 32 << 20)),
                     (OptionReply.ACK, b"")]
    assert handshake.phase is Phase.TRANSMISSION


def test_info_stays_and_what_follows_go_is_kept():
    handshake = begun()
    assert replies(handshake, Option.INFO, text(b"") + b"\0\0")[-1] == (OptionReply.ACK, b"")
    assert handshake.phase is Phase.OPTIONS
    handshake.receive(option(Option.GO, text(b"") + b"\0\0") + b"more")
    assert handshake.rest == b"more"


@pytest.mark.parametrize(("flags", "zeroes"), [(1, 124), (3, 0)])
def test_export_name(flags, zeroes):
    handshake = begun(flags)
    handshake.receive(option(Option.EXPORT_NAME, b"v@b"))
    assert handshake.output() == struct.pack(">QH", 1 << 20, 387) + bytes(zeroes)
    assert handshake.phase is Phase.TRANSMISSION
    with pytest.raises(ProtocolError):
        begun().receive(option(Option.EXPORT_NAME, b"other"))


def test_a_listing_names_the_export_and_abort_ends():
    handshake = begun()
    assert replies(handshake, Option.LIST) == [(OptionReply.SERVER, text(b"v@b")), (OptionReply.ACK, b"")]
    assert replies(handshake, Option.ABORT) == [(OptionReply.ACK, b"")]
    assert handshake.phase is Phase.CLOSED


@pytest.mark.parametrize(("number", "data", "reply"), [
    (Option.STARTTLS, b"", OptionReply.ERR_UNSUP), (77, b"x", OptionReply.ERR_UNSUP),
    (Option.LIST, b"x", OptionReply.ERR_INVALID),
    (Option.STRUCTURED_REPLY, b"x", OptionReply.ERR_INVALID), (Option.GO, b"", OptionReply.ERR_INVALID),
    (Option.GO, text(b"") + b"\0\0x", OptionReply.ERR_INVALID), (Option.GO, struct.pack(">I", 1 << 31), OptionReply.ERR_INVALID),
    (Option.GO, text(b"w") + b"\0\0", OptionReply.ERR_UNKNOWN), (Option.SET_META_CONTEXT, queries(b""), OptionReply.ERR_INVALID),
    (Option.LIST_META_CONTEXT, queries(b"w"), OptionReply.ERR_UNKNOWN),
    (Option.LIST_META_CONTEXT, text(b"") + b"\xff" * 4, OptionReply.ERR_INVALID),
])
def test_what_cannot_be_is_refused_and_the_handshake_goes_on(number, data, reply):
    handshake = begun()
    assert [each for each, _ in replies(handshake, number, data)] == [reply]
    assert handshake.phase is Phase.OPTIONS
    assert replies(handshake, Option.LIST)[-1] == (OptionReply.ACK, b"")


@pytest.mark.parametrize(("wanted", "found"), [
    ((), (1, 2)), ((b"qemu:",), (2,)), ((b"qemu:dirty-bitmap:",), (2,)), ((b"base:allocation",), (1,)), ((b"other:",), ()),
    ((b"qemu:dirty-bitmap:b",), ()), ((b"base:", b"qemu:"), (1, 2)),
])
def test_contexts_are_listed_by_name_and_namespace(wanted, found):
    answers = replies(begun(), Option.LIST_META_CONTEXT, queries(b"", *wanted))
    names = [b"base:allocation", b"qemu:dirty-bitmap:a"]
    assert answers == [*((OptionReply.META_CONTEXT, b"\0\0\0\0" + names[each - 1]) for each in found), (OptionReply.ACK, b"")]


def test_contexts_are_set_by_their_names_alone_and_the_last_setting_counts():
    handshake = begun()
    replies(handshake, Option.STRUCTURED_REPLY)
    assert replies(handshake, Option.SET_META_CONTEXT, queries(b"v@b", b"qemu:dirty-bitmap:a"))[0] == (
        OptionReply.META_CONTEXT, b"\0\0\0\2qemu:dirty-bitmap:a")
    assert handshake.contexts == {2: "qemu:dirty-bitmap:a"}
    replies(handshake, Option.SET_META_CONTEXT, queries(b"", b"base:allocation", b"qemu:"))
    assert handshake.contexts == {1: "base:allocation"}
    replies(handshake, Option.SET_META_CONTEXT, queries(b""))
    assert handshake.contexts == {}


@pytest.mark.parametrize("raw", [
    b"\0\0\0\x80", b"\0\0\0\3" + b"NOTMAGIC" + bytes(8),
    b"\0\0\0\3" + codes.OPTION.pack(codes.OPTION_MAGIC, 3, MAX_OPTION_BYTES + 1),
    b"\0\0\0\3" + option(Option.STRUCTURED_REPLY) * (MAX_OPTIONS + 1),
])
def test_what_has_no_answer_ends_the_connection(raw):
    with pytest.raises(ProtocolError):
        Handshake(EXPORT).receive(raw)


def test_any_cut_of_the_bytes_gives_the_same_answers():
    raw = b"\0\0\0\3" + option(Option.LIST) + option(Option.STRUCTURED_REPLY) + option(
        Option.SET_META_CONTEXT, queries(b"", b"base:allocation")) + option(Option.GO, text(b"") + b"\0\0") + b"rest"
    whole = Handshake(EXPORT)
    whole.receive(raw)
    pieces, answer = Handshake(EXPORT), b""
    for byte in raw:
        if pieces.phase is not Phase.TRANSMISSION:
            pieces.receive(bytes([byte]))
        answer += pieces.output()
    assert answer == whole.output()
    assert pieces.contexts == whole.contexts == {1: "base:allocation"}


def test_random_bytes_cost_a_refusal_or_the_connection():
    source = random.Random(3)
    for _ in range(300):
        handshake = begun()
        try:
            for _ in range(20):
                data = bytes(source.choice((0, 0, 1, 255, source.randrange(256))) for _ in range(source.randrange(40)))
                handshake.receive(option(source.choice([*Option, 99]), data))
                assert len(handshake.output()) < 4096
        except ProtocolError:
            pass
