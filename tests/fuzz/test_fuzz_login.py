"""Invariant: no bytes before or during login raise, hold more than a bound, or let anyone in who did not prove itself.

Mutated transcripts, valid PDUs in any order with grammar-made and broken text, and plain noise, all from a seed.
LUNETTE_FUZZ_SECONDS lengthens it (a second each by default).
"""

import os
import random
import time

import pytest

from target.iscsi import (
    Closed,
    Credentials,
    DiscoveryConnection,
    LoginComplete,
    LoginConnection,
    LoginFailed,
    LoginPolicy,
    SessionRegistry,
    SessionType,
)
from target.iscsi.keys import TABLE
from target.iscsi.pdu import PDU_TYPES, LoginRequest, LogoutRequest, NopOut, TextRequest, encode
from tests.support.guided import explore
from tests.support.initiator import INITIATOR, TARGET, Door, make_policy

SECONDS = float(os.environ.get("LUNETTE_FUZZ_SECONDS", "1"))
HELD_BYTES = 65536 + 48 + 1020 + 8192 + 65536
VALUES = [
    "Yes", "No", "None", "CRC32C", "CHAP", "CHAP,None", "None,CHAP", "Reject", "NotUnderstood", "Irrelevant", "", "0", "1",
    "5", "7,5", "255", "256", "511", "512", "8192", "16777215", "16777216", "4294967296", "-1", "0x", "0x00", "0xFFFF",
    "0bAAAA", "0b====", "0x" + "41" * 16, "0x" + "41" * 1024, "0x" + "41" * 1025, "2048~8192", "All", "Normal", "Discovery",
    INITIATOR, TARGET, "iqn.", "eui.0123456789abcdef", "é" * 130, "x" * 255, "x" * 256, ",", ",,", "%s%n", "=", "a=b",
]  # fmt: skip
NAMES = [spec.name for spec in TABLE] + ["X-org.example.key", "x", "K" * 63, "K" * 64, "", "Bad Key", "RDMAExtensions"]


def key_text(rng: random.Random) -> bytes:
    """A text by the grammar of keys, sometimes broken."""
    pairs = [("InitiatorName", INITIATOR), ("TargetName", TARGET)] if rng.random() < 0.7 else []
    for _ in range(rng.randrange(8)):
        pairs.append((rng.choice(NAMES), rng.choice(VALUES)))
    if rng.random() < 0.9:
        pairs = list(dict(pairs).items())
    text = b"".join(f"{key}={value}".encode() + b"\0" for key, value in pairs)
    return broken(rng, text) if rng.random() < 0.2 else text


def broken(rng: random.Random, data: bytes) -> bytes:
    """Some bytes changed, dropped, doubled or cut off."""
    out = bytearray(data)
    for _ in range(rng.randrange(1, 5)):
        if not out:
            break
        at = rng.randrange(len(out))
        match rng.randrange(4):
            case 0:
                out[at] = rng.randrange(256)
            case 1:
                del out[at]
            case 2:
                out[at:at] = out[at : at + rng.randrange(64)]
            case _:
                del out[at:]
    return bytes(out)


def login_pdu(rng: random.Random) -> bytes:
    """A login request, mostly right."""
    stage = rng.choice((0, 1))
    request = LoginRequest(
        transit=rng.random() < 0.4,
        continues=rng.random() < 0.1,
        current_stage=stage if rng.random() < 0.95 else rng.randrange(4),
        next_stage=rng.choice((1, 3)) if rng.random() < 0.95 else rng.randrange(4),
        version_min=int(rng.random() < 0.01),
        tsih=rng.choice((0, 0, 0, 0, 1, 77)),
        cid=rng.choice((0, 0, 0, 1)),
        cmd_sn=rng.choice((0, 1, 0xFFFFFFFF)),
        data=key_text(rng),
    )
    wire = encode(request)
    return broken(rng, wire) if rng.random() < 0.1 else wire


def stream(rng: random.Random) -> bytes:
    """What one hostile connection sends."""
    kind = rng.random()
    if kind < 0.05:
        return rng.randbytes(rng.randrange(300))
    if kind < 0.1:
        other = rng.choice(list(PDU_TYPES.values()))
        return b"".join((login_pdu(rng), encode(other(data=rng.randbytes(rng.randrange(100))))))
    return b"".join(login_pdu(rng) for _ in range(rng.randrange(1, 12)))


def held_bytes(connection: LoginConnection) -> int:
    return len(connection._reader) + len(connection._collector) + len(connection._pending) + len(connection._out)


def converse(rng: random.Random, policy: LoginPolicy) -> LoginComplete | LoginFailed | Closed | None:
    """One connection from its first byte on; checks the bounds at each step."""
    connection = LoginConnection(policy, 0.0)
    data = stream(rng)
    at = 0
    while at < len(data):
        step = rng.choice((1, 7, 48, 100, 1000, len(data)))
        events = connection.receive(data[at : at + step], 1.0)
        at += step
        assert held_bytes(connection) < HELD_BYTES
        connection.data_to_send()
        if events:
            assert len(events) == 1
            assert connection.receive(b"more", 1.0) == []
            return events[0]
    return None


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("secured", [False, True])
def test_hostile_logins(seed, secured):
    door = Door()
    if secured:
        door.credentials = Credentials(
            name="alice", secret=b"sixteen bytes!!!", mutual_name="we", mutual_secret=b"other sixteen byte"
        )
    seen: set[type] = set()
    count = 0
    end = time.monotonic() + SECONDS
    while count < 300 or time.monotonic() < end:
        policy = make_policy(door, registry=SessionRegistry(max_sessions=3), max_login_pdus=8)
        rng = random.Random(f"{seed}/{secured}/{count}")
        for _ in range(3):
            try:
                event = converse(rng, policy)
            except Exception as error:
                raise AssertionError(f"seed {seed}/{secured}/{count}") from error
            seen.add(type(event))
            if secured:
                assert not isinstance(event, LoginComplete)
                assert len(policy.registry) == 0
            if isinstance(event, LoginFailed | Closed):
                assert event.reason.isprintable()
                assert len(event.reason) < 400
        assert len(policy.registry) <= 3
        count += 1
    assert LoginFailed in seen
    assert secured or LoginComplete in seen


WORDS = [value.encode() + b"\0" for value in VALUES] + [name.encode() + b"=" for name in NAMES]


def transcript(*texts: bytes, stage: int = 1, discovery: bool = False) -> bytes:
    """The bytes of a whole login, and of some more after it."""
    out = bytearray()
    for n, text in enumerate(texts):
        last = n == len(texts) - 1
        out += encode(LoginRequest(transit=last, current_stage=stage, next_stage=3 if last else 0, data=text))
    if discovery:
        out += encode(TextRequest(data=b"SendTargets=All\0")) + encode(NopOut(initiator_task_tag=1, cmd_sn=1, data=b"x"))
        out += encode(LogoutRequest(cmd_sn=2))
    return bytes(out)


NORMAL = f"InitiatorName={INITIATOR}\0TargetName={TARGET}\0".encode()
DISCOVERY = f"InitiatorName={INITIATOR}\0SessionType=Discovery\0".encode()
SEEDS = [
    transcript(NORMAL, b"HeaderDigest=CRC32C\0MaxBurstLength=65536\0"),
    transcript(NORMAL + b"AuthMethod=None\0", b"X-a=1\0", stage=0),
    transcript(DISCOVERY, discovery=True),
]


def from_first_to_last_byte(data: bytes) -> None:
    """A connection that may get as far as a discovery session."""
    policy = make_policy(registry=SessionRegistry(max_sessions=3))
    connection = LoginConnection(policy, 0.0)
    for at in range(0, len(data), 100):
        events = connection.receive(data[at : at + 100], 1.0)
        assert held_bytes(connection) < HELD_BYTES
        if events:
            break
    else:
        return
    done = events[0]
    assert isinstance(done, LoginComplete) == (len(policy.registry) == 1)
    if isinstance(done, LoginComplete) and done.params.session_type is SessionType.DISCOVERY:
        found = DiscoveryConnection(policy, done.params, done.admission.session, 1.0)
        if not done.leftover or not found.receive(done.leftover, 1.0):
            found.receive(data[at + 100 :] or b"x", 1.0)
        assert len(found.data_to_send()) < 2 << 20


def test_guided_hostile_bytes():
    tried, steps = explore(
        from_first_to_last_byte, SEEDS, WORDS, part="target/iscsi/", seed=2, seconds=SECONDS, least=100
    )
    assert tried >= 100
    assert steps > 300
