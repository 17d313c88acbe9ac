"""Invariant: no key=value text, wherever it is taken (login, CHAP, full feature phase), raises or is answered beyond its bound.

Coverage-guided from real texts; LUNETTE_FUZZ_SECONDS lengthens it (a second by default).
"""

import os

from target.iscsi import Credentials, FullFeatureConnection, LoginComplete, LoginFailed, RawPdu, SegmentLengthDeclared, SendPdu
from target.iscsi.codes import RESERVED_TAG
from target.iscsi.keys import TABLE
from target.iscsi.pdu import TextRequest, decode, header
from target.iscsi.text import TextError, parse_pairs
from tests.support.guided import explore
from tests.support.initiator import INITIATOR, TARGET, Door, Initiator, logged_in, make_policy

SECONDS = float(os.environ.get("LUNETTE_FUZZ_SECONDS", "1"))
IDENTITY = f"InitiatorName={INITIATOR}\0TargetName={TARGET}\0SessionType=Normal\0".encode()
SEEDS = [
    IDENTITY + b"AuthMethod=CHAP,None\0",
    IDENTITY + b"HeaderDigest=CRC32C,None\0DataDigest=None\0MaxRecvDataSegmentLength=262144\0",
    b"InitialR2T=No\0ImmediateData=Yes\0MaxBurstLength=16776192\0FirstBurstLength=0x40000\0MaxConnections=1\0",
    b"DataPDUInOrder=Yes\0DataSequenceInOrder=Yes\0ErrorRecoveryLevel=2\0IFMarker=No\0OFMarkInt=1~2\0",
    b"DefaultTime2Wait=2\0DefaultTime2Retain=0bAAAA\0TaskReporting=FastAbort,RFC3720\0iSCSIProtocolLevel=2\0",
    b"CHAP_A=5,6,7,8\0",
    b"CHAP_N=alice\0CHAP_R=0x" + b"0" * 32 + b"\0CHAP_I=7\0CHAP_C=0bAAECAw==\0",
    b"SendTargets=\0X-org.example.key=1\0InitiatorAlias=me\0MaxRecvDataSegmentLength=524288\0",
]
WORDS = [
    *(spec.name.encode() + b"=" for spec in TABLE),
    b"\0", b"=", b",", b"~", b"Yes\0", b"No\0", b"None\0", b"Reject\0", b"NotUnderstood\0", b"Irrelevant\0", b"0x", b"0b", b"==",
    b"4294967296", b"18446744073709551615", b"-1", b"\xff", b"\xc3\xa9", b"\r\n", b"x" * 64, b"x" * 256, b"0x" + b"f" * 2049,
]  # fmt: skip

DOOR = Door()
DOOR.credentials = Credentials(name="alice", secret=b"sixteen bytes!!!", mutual_name="we", mutual_secret=b"other sixteen byte")


def in_login(text: bytes) -> None:
    """As the first text of each stage, and as each step of CHAP."""
    for door, before, stage in ((Door(), b"", 1), (Door(), b"", 0), (Door(), IDENTITY, 1), (DOOR, IDENTITY, 0)):
        it = Initiator(make_policy(door))
        if before:
            it.login(before, csg=stage, t=False)
        if door is DOOR:
            it.login(b"AuthMethod=CHAP\0", csg=0, t=False)
            if len(text) % 2:
                it.login(b"CHAP_A=7\0", csg=0, t=False)
        if it.event is None:
            for at in range(0, min(len(text), 8192) or 1, 4096):
                if it.event is None:
                    it.login(text[at : at + 4096], csg=stage, t=at + 4096 >= len(text), continues=at + 4096 < len(text))
        assert door is not DOOR or not isinstance(it.event, LoginComplete)
        assert len(it.connection._pending) <= 65536
        if isinstance(it.event, LoginFailed):
            assert it.event.reason.isprintable()
            assert len(it.event.reason) < 400
            assert "sixteen" not in it.event.reason


def in_full_feature(text: bytes) -> None:
    """As one text request of a normal session."""
    policy = make_policy()
    done = logged_in(policy)
    connection = FullFeatureConnection(policy, done.params, done.admission.session)
    request = RawPdu(header(TextRequest(initiator_task_tag=1)), b"", text)
    answered = 0
    for event in connection.receive_pdu(request):
        if isinstance(event, SegmentLengthDeclared):
            assert 512 <= event.length_bytes <= 0xFFFFFF
            continue
        assert isinstance(event, SendPdu)
        answer = decode(RawPdu(event.bhs, b"", event.data))
        answered += len(answer.data)
        assert getattr(answer, "target_transfer_tag", RESERVED_TAG) is not None
    assert answered <= 8192


def check(text: bytes) -> None:
    try:
        pairs = parse_pairs(text)
    except TextError:
        pass
    else:
        assert sum(len(key) + len(value.encode()) + 2 for key, value in pairs.items()) <= len(text)
    in_login(text)
    in_full_feature(text)


def test_hostile_keys():
    tried, steps = explore(check, SEEDS, WORDS, part="target/iscsi/", seed=1, seconds=SECONDS, least=100)
    assert tried >= 100
    assert steps > 300
