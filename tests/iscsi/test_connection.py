"""Full feature phase without I/O: Text, SendTargets, Logout, NOP, task management, Reject, async messages (RFC 7143 §11)."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from target.iscsi import (
    AsyncEvent,
    Closed,
    DiscoveryConnection,
    FullFeatureConnection,
    Limits,
    LoginComplete,
    LogoutReason,
    LogoutRequested,
    NopReceived,
    PortalAddress,
    RawPdu,
    RejectReason,
    SegmentLengthDeclared,
    SendPdu,
    TargetRecord,
    TaskFunction,
    TaskManagementRequested,
    TaskResponse,
)
from target.iscsi.codes import RESERVED_TAG
from target.iscsi.framing import PduReader
from target.iscsi.pdu import (
    AsyncMessage,
    LogoutRequest,
    LogoutResponse,
    NopIn,
    NopOut,
    Pdu,
    Reject,
    ScsiCommand,
    SnackRequest,
    TaskManagementRequest,
    TaskManagementResponse,
    TextRequest,
    TextResponse,
    decode,
    encode,
    raw,
)
from tests.support.initiator import INITIATOR, TARGET, Door, Initiator, logged_in, make_policy, text_of

OTHER = "iqn.2026-11.dev.lunette:other"


def full(door: Door | None = None, **keys: str) -> FullFeatureConnection:
    policy = make_policy(door)
    done = logged_in(policy, **keys)
    return FullFeatureConnection(policy, done.params, done.admission.session)


def answer(connection: FullFeatureConnection, pdu: Pdu) -> Any:
    events = connection.receive_pdu(raw(pdu))
    assert len(events) == 1
    event = events[0]
    return decode(RawPdu(event.bhs, b"", event.data)) if isinstance(event, SendPdu) else event


def is_reject(pdu: Any, reason: RejectReason) -> bool:
    assert isinstance(pdu, Reject)
    assert pdu.reason == reason
    assert len(pdu.data) == 48
    return True


# -- Text ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "pairs"),
    [
        (b"SendTargets=\0", {"TargetName": TARGET, "TargetAddress": "127.0.0.1:3260,1"}),
        (f"SendTargets={TARGET}\0".encode(), {"TargetName": TARGET, "TargetAddress": "127.0.0.1:3260,1"}),
        (b"SendTargets=All\0", {"TargetName": TARGET, "TargetAddress": "127.0.0.1:3260,1"}),
        (f"SendTargets={OTHER}\0".encode(), {}),
        (b"MaxRecvDataSegmentLength=1\0", {"MaxRecvDataSegmentLength": "Reject"}),
        (b"InitiatorAlias=me\0", {}),
        (b"MaxBurstLength=512\0HeaderDigest=None\0", {"MaxBurstLength": "Reject", "HeaderDigest": "Reject"}),
        (b"X-a=1\0Unknown=2\0Third=NotUnderstood\0", {"X-a": "NotUnderstood", "Unknown": "NotUnderstood"}),
        (b"", {}),
    ],
)
def test_text_in_a_normal_session(asked, pairs):
    door = Door()
    door.targets = (*door.targets, TargetRecord(OTHER, (PortalAddress("127.0.0.1"),)))
    response = answer(full(door), TextRequest(initiator_task_tag=5, data=asked))
    assert isinstance(response, TextResponse)
    assert response.final
    assert response.target_transfer_tag == RESERVED_TAG
    assert response.initiator_task_tag == 5
    assert text_of(response) == pairs


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (TextRequest(data=b"SendTargets"), RejectReason.PROTOCOL_ERROR),
        (TextRequest(data=b"SendTargets\0"), RejectReason.PROTOCOL_ERROR),
        (TextRequest(data=b"A=1\0A=1\0"), RejectReason.PROTOCOL_ERROR),
        (TextRequest(data=b"SendTargets=" + b"x" * 300 + b"\0"), RejectReason.PROTOCOL_ERROR),
        (TextRequest(data=b"SendTargets=Alle\0"), RejectReason.PROTOCOL_ERROR),
        (TextRequest(data=b"SendTargetsPlease=All\0"), RejectReason.PROTOCOL_ERROR),
        (TextRequest(data=b"sENDtARGETS=aLL\0"), RejectReason.PROTOCOL_ERROR),
        (TextRequest(final=True, continues=True), RejectReason.PROTOCOL_ERROR),
        (TextRequest(target_transfer_tag=77), RejectReason.INVALID_PDU_FIELD),
    ],
)
def test_wrong_text_is_rejected_and_the_next_one_is_served(request_, reason):
    connection = full()
    assert is_reject(answer(connection, request_), reason)
    assert answer(connection, TextRequest(data=b"X-a=1\0")).final


def test_text_negotiation_over_several_requests():
    connection = full()
    first = answer(connection, TextRequest(final=False, continues=True, initiator_task_tag=1, data=b"X-a"))
    assert (first.final, first.data) == (False, b"")
    tag = first.target_transfer_tag
    assert tag != RESERVED_TAG
    second = answer(connection, TextRequest(final=False, initiator_task_tag=1, target_transfer_tag=tag, data=b"=1\0"))
    assert text_of(second) == {"X-a": "NotUnderstood"}
    twice = TextRequest(initiator_task_tag=1, target_transfer_tag=tag, data=b"X-a=1\0")
    assert is_reject(answer(connection, twice), RejectReason.PROTOCOL_ERROR)
    gone = TextRequest(initiator_task_tag=1, target_transfer_tag=tag, data=b"")
    assert is_reject(answer(connection, gone), RejectReason.INVALID_PDU_FIELD)


@pytest.mark.parametrize("length", [512, 65536])
def test_another_segment_length_holds_when_the_negotiation_ends(length):
    connection = full()
    text = TextRequest(final=False, initiator_task_tag=1, data=b"MaxRecvDataSegmentLength=%d\0" % length)
    first = answer(connection, text)
    assert (first.final, first.data) == (False, b"")
    ping = NopOut(initiator_task_tag=9, data=b"x" * 70000)
    assert len(answer(connection, ping).data) == 8192
    last = TextRequest(initiator_task_tag=1, target_transfer_tag=first.target_transfer_tag)
    declared, sent = connection.receive_pdu(raw(last))
    assert declared == SegmentLengthDeclared(length)
    assert isinstance(sent, SendPdu)
    assert len(answer(connection, ping).data) == length


def test_a_segment_length_of_a_negotiation_that_failed_does_not_hold():
    connection = full()
    first = answer(connection, TextRequest(final=False, initiator_task_tag=1, data=b"MaxRecvDataSegmentLength=512\0"))
    wrong = TextRequest(initiator_task_tag=1, target_transfer_tag=first.target_transfer_tag, data=b"no pair")
    assert is_reject(answer(connection, wrong), RejectReason.PROTOCOL_ERROR)
    assert answer(connection, TextRequest(data=b"X-a=1\0")).final
    assert len(answer(connection, NopOut(initiator_task_tag=9, data=b"x" * 9000)).data) == 8192


def test_a_text_without_end_is_refused():
    connection = full()
    response = answer(connection, TextRequest(final=False, continues=True, data=b"x" * 60000))
    request = TextRequest(final=False, continues=True, data=b"x" * 6000, target_transfer_tag=response.target_transfer_tag)
    assert is_reject(answer(connection, request), RejectReason.PROTOCOL_ERROR)


# -- the rest ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "cid", "code", "closes"),
    [(0, 0, 0, True), (0, 9, 0, True), (1, 0, 0, True), (1, 9, 1, None), (2, 0, 2, None)],
)
def test_logout(reason, cid, code, closes):
    connection = full()
    got = answer(connection, LogoutRequest(reason=reason, cid=cid, initiator_task_tag=3))
    if closes is None:
        assert isinstance(got, LogoutResponse)
        response = got
        assert answer(connection, NopOut(initiator_task_tag=1)).opcode == 0x20
    else:
        assert isinstance(got, LogoutRequested)
        assert (got.reason, got.cid, got.closes) == (LogoutReason(reason), cid, closes)
        response = decode(RawPdu(got.response.bhs, b"", got.response.data))
        assert connection.receive_pdu(raw(NopOut(initiator_task_tag=1))) == []
    assert (response.response, response.initiator_task_tag) == (code, 3)


def test_logout_of_another_connection_of_the_session():
    policy = make_policy(limits=Limits(max_connections=2))
    done = logged_in(policy, MaxConnections="2")
    it = Initiator(policy)
    it.login({"InitiatorName": INITIATOR, "TargetName": TARGET}, tsih=done.params.tsih, cid=4)
    connection = FullFeatureConnection(policy, done.params, done.admission.session)
    got = answer(connection, LogoutRequest(reason=1, cid=4))
    assert isinstance(got, LogoutRequested)
    assert not got.closes


def test_logout_for_no_known_reason():
    assert is_reject(answer(full(), LogoutRequest(reason=3)), RejectReason.INVALID_PDU_FIELD)


def test_nop_out_is_echoed_within_the_initiator_s_segment():
    connection = full(MaxRecvDataSegmentLength="512")
    response = answer(connection, NopOut(initiator_task_tag=9, lun=b"12345678", data=b"x" * 600))
    assert isinstance(response, NopIn)
    assert (response.initiator_task_tag, response.target_transfer_tag) == (9, RESERVED_TAG)
    assert (response.lun, len(response.data)) == (b"12345678", 512)


def test_ping_and_its_answer():
    connection = full()
    ping = connection.ping(66)
    assert not ping.has_status
    sent = decode(RawPdu(ping.bhs, b"", ping.data))
    assert isinstance(sent, NopIn)
    assert (sent.initiator_task_tag, sent.target_transfer_tag) == (RESERVED_TAG, 66)
    assert answer(connection, NopOut(immediate=True, target_transfer_tag=66)) == NopReceived(66)
    assert connection.receive_pdu(raw(NopOut(immediate=True))) == []


@pytest.mark.parametrize(
    ("pdu", "reason"),
    [
        (SnackRequest(type=1), RejectReason.SNACK_REJECT),
        (NopIn(), RejectReason.COMMAND_NOT_SUPPORTED),
        (ScsiCommand(), RejectReason.COMMAND_NOT_SUPPORTED),
        (NopOut(), RejectReason.PROTOCOL_ERROR),
        (TextRequest(initiator_task_tag=RESERVED_TAG, data=b"SendTargets=\0"), RejectReason.INVALID_PDU_FIELD),
        (LogoutRequest(initiator_task_tag=RESERVED_TAG), RejectReason.INVALID_PDU_FIELD),
        (TaskManagementRequest(initiator_task_tag=RESERVED_TAG, function=5), RejectReason.INVALID_PDU_FIELD),
    ],
)
def test_what_is_rejected(pdu, reason):
    assert is_reject(answer(full(), pdu), reason)


def test_unknown_opcode_bad_digest_and_bad_header_are_rejected():
    connection = full()
    good = raw(NopOut(initiator_task_tag=1))
    for bad, reason in (
        (RawPdu(b"\x1c" + bytes(47), b"", b""), RejectReason.COMMAND_NOT_SUPPORTED),
        (RawPdu(good.bhs, b"", b"", data_digest_ok=False), RejectReason.DATA_DIGEST_ERROR),
        (RawPdu(good.bhs, bytes.fromhex("00000100"), b""), RejectReason.INVALID_PDU_FIELD),
    ):
        (event,) = connection.receive_pdu(bad)
        assert isinstance(event, SendPdu)
        assert event.bhs[2] == reason
        assert event.data == bad.bhs


@pytest.mark.parametrize(
    ("function", "response"),
    [
        (TaskFunction.TASK_REASSIGN, TaskResponse.ALLEGIANCE_REASSIGNMENT_NOT_SUPPORTED),
        (TaskFunction.QUERY_TASK, TaskResponse.FUNCTION_NOT_SUPPORTED),
        (99, TaskResponse.FUNCTION_NOT_SUPPORTED),
        (0, TaskResponse.FUNCTION_NOT_SUPPORTED),
    ],
)
def test_functions_that_are_answered_at_once(function, response):
    got = answer(full(), TaskManagementRequest(function=function, initiator_task_tag=8))
    assert isinstance(got, TaskManagementResponse)
    assert (got.response, got.initiator_task_tag) == (response, 8)


def test_functions_that_the_server_performs():
    connection = full()
    request = TaskManagementRequest(function=TaskFunction.ABORT_TASK, initiator_task_tag=8, referenced_task_tag=4)
    assert answer(connection, request) == TaskManagementRequested(request)
    sent = connection.task_management_response(request, TaskResponse.TASK_DOES_NOT_EXIST)
    response = decode(RawPdu(sent.bhs, b"", sent.data))
    assert isinstance(response, TaskManagementResponse)
    assert (response.response, response.initiator_task_tag) == (1, 8)


def test_async_messages():
    connection = full()
    sent = connection.async_message(AsyncEvent.SCSI_EVENT, lun=b"\0\1" + bytes(6), sense=b"sense!")
    message = decode(RawPdu(sent.bhs, b"", sent.data))
    assert isinstance(message, AsyncMessage)
    assert (message.async_event, message.lun, message.data) == (0, b"\0\1" + bytes(6), b"\0\6sense!")
    sent = connection.async_message(AsyncEvent.LOGOUT_REQUEST, parameters=(0, 0, 10))
    assert sent.bhs[36:44] == bytes((1, 0, 0, 0, 0, 0, 0, 10))
    assert sent.bhs[16:20] == b"\xff" * 4


# -- discovery sessions --------------------------------------------------------------------------------------------------


def discover(door: Door | None = None, **keys: str) -> tuple[DiscoveryConnection, LoginComplete]:
    policy = make_policy(door)
    it = Initiator(policy)
    it.login({"InitiatorName": INITIATOR, "SessionType": "Discovery", **keys})
    assert isinstance(it.event, LoginComplete)
    return DiscoveryConnection(policy, it.event.params, it.event.admission.session, 0.0), it.event


def exchange(connection: DiscoveryConnection, data: bytes, digests: bool = False) -> tuple[list[Any], list[Closed]]:
    events = connection.receive(data, 1.0)
    reader = PduReader(max_data_segment_bytes=1 << 20, header_digest=digests, data_digest=digests)
    reader.feed(connection.data_to_send())
    pdus = []
    while (got := reader.next_pdu()) is not None:
        pdus.append(decode(got))
    assert len(reader) == 0
    return pdus, events


def test_discovery_of_several_portals_and_logout():
    door = Door()
    addresses = (PortalAddress("10.0.0.1"), PortalAddress("2001:db8::1", 3261, 2), PortalAddress("storage.example"))
    door.targets = (TargetRecord(TARGET, addresses), TargetRecord(OTHER, ()))
    connection, login = discover(door)
    request = TextRequest(cmd_sn=7, initiator_task_tag=1, data=b"SendTargets=All\0")
    (response,), events = exchange(connection, encode(request))
    assert not events
    assert response.data.decode().split("\0")[:-1] == [
        f"TargetName={TARGET}",
        "TargetAddress=10.0.0.1:3260,1",
        "TargetAddress=[2001:db8::1]:3261,2",
        "TargetAddress=storage.example:3260,1",
        f"TargetName={OTHER}",
    ]
    assert (response.stat_sn, response.exp_cmd_sn, response.max_cmd_sn) == (login.params.stat_sn, 8, 8 + 127)
    (response,), events = exchange(connection, encode(LogoutRequest(immediate=True, cmd_sn=8)))
    assert isinstance(response, LogoutResponse)
    assert response.response == 0
    assert response.stat_sn == login.params.stat_sn + 1
    assert events == [Closed("logged out")]
    assert connection.receive(encode(NopOut()), 2.0) == []


@pytest.mark.parametrize(
    ("asked", "pairs"),
    [
        ("", {"SendTargets": "Reject"}),
        ("iqn.not:there", {}),
        (TARGET, {"TargetName": TARGET, "TargetAddress": "127.0.0.1:3260,1"}),
    ],
)
def test_send_targets_in_discovery(asked, pairs):
    connection, _ = discover()
    (response,), _ = exchange(connection, encode(TextRequest(cmd_sn=7, data=f"SendTargets={asked}\0".encode())))
    assert text_of(response) == pairs


def test_a_target_may_be_configured_in_capitals():
    door = Door()
    door.targets = [TargetRecord(TARGET.upper(), (PortalAddress("10.0.0.1"),))]
    response = answer(full(door), TextRequest(data=b"SendTargets=\0"))
    assert text_of(response)["TargetName"] == TARGET.upper()


def test_long_target_list_comes_in_parts_of_the_initiator_s_segment():
    door = Door()
    door.targets = [TargetRecord(f"{TARGET}-{n:04}", (PortalAddress("10.0.0.1"),)) for n in range(100)]
    connection, _ = discover(door, MaxRecvDataSegmentLength="1024", HeaderDigest="CRC32C", DataDigest="CRC32C")
    data, cmd_sn, tag = b"SendTargets=All\0", 7, RESERVED_TAG
    parts = []
    while True:
        request = TextRequest(cmd_sn=cmd_sn, initiator_task_tag=1, target_transfer_tag=tag, data=data)
        wire = encode(request, header_digest=True, data_digest=True)
        (response,), _ = exchange(connection, wire, digests=True)
        assert len(response.data) <= 1024
        parts.append(response.data)
        if response.final:
            break
        assert response.continues
        data, cmd_sn, tag = b"", cmd_sn + 1, response.target_transfer_tag
    names = [item for item in b"".join(parts).split(b"\0") if item.startswith(b"TargetName=")]
    assert names == [b"TargetName=" + record.name.encode() for record in door.targets]


def test_discovery_session_refuses_everything_else():
    connection, _ = discover()
    for pdu in (ScsiCommand(cmd_sn=7), TaskManagementRequest(cmd_sn=8)):
        (response,), events = exchange(connection, encode(pdu))
        assert is_reject(response, RejectReason.COMMAND_NOT_SUPPORTED)
        assert not events


def test_discovery_session_times_out():
    connection, _ = discover()
    assert connection.deadline == 30.0
    exchange(connection, encode(NopOut(cmd_sn=7, initiator_task_tag=1)))
    assert connection.deadline == 31.0
    assert connection.timeout(30.5) == []
    assert connection.timeout(31.0) == [Closed("discovery session idle")]


def test_discovery_lifetime_is_bounded():
    connection, _ = discover()
    for n in range(400):
        connection.receive(encode(NopOut(cmd_sn=7 + n, initiator_task_tag=1)), float(n))
        connection.data_to_send()
    assert connection.deadline == 300.0


def test_asking_without_reading_is_bounded():
    door = Door()
    door.targets = [TargetRecord(f"{TARGET}-{n:04}", (PortalAddress("10.0.0.1"),)) for n in range(100)]
    connection, _ = discover(door)
    wire = b"".join(encode(TextRequest(cmd_sn=7 + n, data=b"SendTargets=All\0")) for n in range(2000))
    assert connection.receive(wire, 1.0) == [Closed("asks too much at once")]
    assert len(connection.data_to_send()) < 2 << 20


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=8), st.booleans())
def test_random_bytes_after_a_discovery_login(chunks, valid_start):
    connection, _ = discover()
    if valid_start:
        chunks = [encode(TextRequest(cmd_sn=7, data=b"X-a=1\0")), *chunks]
    for chunk in chunks:
        if connection.receive(chunk, 1.0):
            break
    connection.data_to_send()


@given(st.integers(0, 63), st.binary(min_size=47, max_size=47), st.binary(max_size=40), st.binary(max_size=80))
def test_random_pdus_in_a_normal_session(opcode, rest, ahs, data):
    connection = full()
    for event in connection.receive_pdu(RawPdu(bytes((opcode,)) + rest, ahs, data)):
        assert not isinstance(event, Closed)
        if isinstance(event, SendPdu):
            decode(RawPdu(event.bhs, b"", event.data))
