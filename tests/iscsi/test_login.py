"""The login phase: transcripts as real initiators speak them, every status, every order broken (RFC 7143 §6.3, §11.13.5)."""

import hashlib

import pytest

from target.iscsi import (
    AdmissionKind,
    Closed,
    Credentials,
    Limits,
    LoginComplete,
    LoginFailed,
    LoginStatus,
    Redirect,
    SessionRegistry,
    SessionType,
)
from target.iscsi.pdu import LoginRequest, NopOut, encode
from target.iscsi.text import build_pairs
from tests.support.initiator import INITIATOR, TARGET, Door, Initiator, hello, logged_in, make_policy

SECRETS = Credentials(name="alice", secret=b"a secret of alice", mutual_name="lunette", mutual_secret=b"a secret of ours")


def test_open_iscsi_normal_login_without_authentication():
    policy = make_policy()
    it = Initiator(policy)
    answer = it.login(
        {"InitiatorName": INITIATOR, "InitiatorAlias": "host", "TargetName": TARGET, "SessionType": "Normal",
         "AuthMethod": "None"},
        csg=0, nsg=1,
    )  # fmt: skip
    assert answer == {"TargetAlias": "Lunette", "TargetPortalGroupTag": "1", "AuthMethod": "None"}
    assert (it.last.transit, it.last.current_stage, it.last.next_stage, it.last.tsih) == (True, 0, 1, 0)
    answer = it.login(
        {
            "HeaderDigest": "None", "DataDigest": "None", "DefaultTime2Wait": "2", "DefaultTime2Retain": "0",
            "IFMarker": "No", "OFMarker": "No", "ErrorRecoveryLevel": "0", "InitialR2T": "No", "ImmediateData": "Yes",
            "MaxBurstLength": "16776192", "FirstBurstLength": "262144", "MaxOutstandingR2T": "1", "MaxConnections": "1",
            "DataPDUInOrder": "Yes", "DataSequenceInOrder": "Yes", "MaxRecvDataSegmentLength": "262144",
        },
    )  # fmt: skip
    assert answer == {
        "HeaderDigest": "None", "DataDigest": "None", "DefaultTime2Wait": "2", "DefaultTime2Retain": "0",
        "IFMarker": "No", "OFMarker": "No", "ErrorRecoveryLevel": "0", "InitialR2T": "No", "ImmediateData": "Yes",
        "MaxBurstLength": "16773120", "FirstBurstLength": "262144", "MaxOutstandingR2T": "1", "MaxConnections": "1",
        "DataPDUInOrder": "Yes", "DataSequenceInOrder": "Yes", "MaxRecvDataSegmentLength": "262144",
    }  # fmt: skip
    done = it.event
    assert isinstance(done, LoginComplete)
    assert it.last.transit
    assert it.last.next_stage == 3
    assert it.last.tsih == done.params.tsih == done.admission.session.tsih != 0
    assert (it.last.exp_cmd_sn, it.last.max_cmd_sn) == (7, 7 + 127)
    params = done.params
    assert params.session_type is SessionType.NORMAL
    assert params.initiator_alias == "host"
    assert not params.initial_r2t
    assert params.max_burst_length == 16773120
    assert params.initiator_max_recv_data_segment_length == params.target_max_recv_data_segment_length == 262144
    assert params.stat_sn == it.last.stat_sn + 1
    assert [r.stat_sn for r in it.responses] == [0, 1]
    assert params.exp_cmd_sn == 7
    assert params.as_dict()["tsih"] == params.tsih
    assert len(policy.registry) == 1


def test_libiscsi_repeats_its_identity_in_each_stage():
    it = Initiator(make_policy())
    identity = {"InitiatorName": INITIATOR, "InitiatorAlias": "x", "TargetName": TARGET, "SessionType": "Normal"}
    it.login({**identity, "AuthMethod": "CHAP,None"}, csg=0, nsg=1)
    it.login({**identity, "HeaderDigest": "None,CRC32C", "MaxRecvDataSegmentLength": "262144"})
    assert isinstance(it.event, LoginComplete)
    assert not it.event.params.header_digest


def test_one_request_login_and_leftover():
    it = Initiator(make_policy())
    request = LoginRequest(transit=True, current_stage=1, next_stage=3, data=build_pairs(hello().items()))
    nop = encode(NopOut())
    it.send(encode(request) + nop[:50])
    assert isinstance(it.event, LoginComplete)
    assert it.event.leftover == nop[:50]
    assert it.event.params.initial_r2t  # the defaults hold for what nobody names
    assert it.event.params.first_burst_length == 65536
    assert it.event.params.initiator_max_recv_data_segment_length == 8192


def test_login_a_byte_at_a_time():
    it = Initiator(make_policy())
    for byte in encode(LoginRequest(transit=True, current_stage=1, next_stage=3, data=build_pairs(hello().items()))):
        it.send(bytes((byte,)))
    assert isinstance(it.event, LoginComplete)


def test_straight_from_security_to_full_feature_keeps_the_default_segment_length():
    it = Initiator(make_policy())
    it.login(hello(AuthMethod="None"), csg=0, nsg=3)
    assert isinstance(it.event, LoginComplete)
    assert it.event.params.target_max_recv_data_segment_length == 8192


def test_discovery_session_needs_no_target():
    policy = make_policy()
    it = Initiator(policy)
    answer = it.login({"InitiatorName": INITIATOR, "SessionType": "Discovery", "MaxBurstLength": "512", "DefaultTime2Wait": "3"})
    assert answer == {"MaxBurstLength": "Irrelevant", "DefaultTime2Wait": "3", "MaxRecvDataSegmentLength": "262144"}
    assert isinstance(it.event, LoginComplete)
    assert it.event.params.session_type is SessionType.DISCOVERY
    assert it.event.params.target_name == ""


def test_names_are_compared_in_lower_case():
    it = Initiator(make_policy())
    it.login({"InitiatorName": INITIATOR.upper().replace("IQN", "iqn"), "TargetName": TARGET.upper()})
    assert isinstance(it.event, LoginComplete)
    assert it.event.params.initiator_name == INITIATOR
    assert it.event.params.target_name == TARGET


def test_text_over_several_requests():
    it = Initiator(make_policy())
    text = build_pairs(hello(InitiatorAlias="long name", ImmediateData="No").items())
    for at in range(0, 60, 20):
        assert it.login(text[at : at + 20], t=False, continues=True) == {}
        assert not it.last.transit
        assert not it.last.continues
    answer = it.login(text[60:])
    assert answer["ImmediateData"] == "No"
    assert isinstance(it.event, LoginComplete)


def test_long_answers_come_in_parts():
    it = Initiator(make_policy())
    it.login(hello(), t=False)
    keys = {f"X-com.example.{n:04}": "1" for n in range(380)}
    assert len(build_pairs(keys.items())) < 8192
    parts = []
    it.login(keys)
    while it.last.continues:
        assert not it.last.transit
        assert len(it.last.data) == 8192
        parts.append(it.last.data)
        it.login()
    parts.append(it.last.data)
    text = b"".join(parts)
    assert text.count(b"=NotUnderstood\0") == 380
    assert isinstance(it.event, LoginComplete)


# -- authentication ------------------------------------------------------------------------------------------------------

ALGORITHMS = {5: hashlib.md5, 6: hashlib.sha1, 7: hashlib.sha256, 8: hashlib.sha3_256}


def chap_response(algorithm: int, identifier: int, secret: bytes, challenge: bytes) -> str:
    return "0x" + ALGORITHMS[algorithm](bytes((identifier,)) + secret + challenge).hexdigest()


def begin_chap(door: Door, algorithms: str = "5", **hello_keys: str) -> tuple[Initiator, dict[str, str]]:
    it = Initiator(make_policy(door))
    answer = it.login({**hello(), "AuthMethod": "CHAP,None", **hello_keys}, csg=0, nsg=1)
    assert answer["AuthMethod"] == "CHAP"
    assert not it.last.transit
    return it, it.login({"CHAP_A": algorithms}, csg=0, t=False)


@pytest.fixture
def door() -> Door:
    it = Door()
    it.credentials = SECRETS
    return it


@pytest.mark.parametrize("algorithm", [5, 6, 7, 8])
def test_one_way_chap(door, algorithm):
    it, answer = begin_chap(door, f"99,{algorithm},5")
    assert answer["CHAP_A"] == str(algorithm)
    challenge = bytes.fromhex(answer["CHAP_C"][2:])
    assert len(challenge) >= 16
    proof = chap_response(algorithm, int(answer["CHAP_I"]), SECRETS.secret, challenge)
    assert it.login({"CHAP_N": "alice", "CHAP_R": proof}, csg=0, nsg=1) == {}
    assert it.last.transit
    it.login({})
    assert isinstance(it.event, LoginComplete)
    assert it.event.params.authenticated


def test_mutual_chap(door):
    it, answer = begin_chap(door)
    proof = chap_response(5, int(answer["CHAP_I"]), SECRETS.secret, bytes.fromhex(answer["CHAP_C"][2:]))
    back = it.login({"CHAP_N": "alice", "CHAP_R": proof, "CHAP_I": "9", "CHAP_C": "0b" + "AAECAw=="}, csg=0, nsg=1)
    assert back == {"CHAP_N": "lunette", "CHAP_R": chap_response(5, 9, SECRETS.mutual_secret, b"\0\1\2\3")}
    assert it.last.transit


def test_challenges_are_fresh(door):
    assert len({begin_chap(door)[1]["CHAP_C"] for _ in range(20)}) == 20


def refused(it: Initiator, status: LoginStatus) -> bool:
    assert isinstance(it.event, LoginFailed), it.event
    for secret in (SECRETS.secret, SECRETS.mutual_secret):
        assert secret.decode() not in repr(it.event)
    assert it.event.status == it.status == status
    assert len(it.policy.registry) == 0
    return True


@pytest.mark.parametrize(
    "keys",
    [
        {"CHAP_N": "alice", "CHAP_R": "0x" + "00" * 16},
        {"CHAP_N": "bob", "CHAP_R": "PROOF"},
        {"CHAP_N": "alice", "CHAP_R": "0x00"},
        {"CHAP_N": "alice", "CHAP_R": "0x" + "00" * 500},
        {"CHAP_N": "alice", "CHAP_R": "0xzz"},
        {"CHAP_N": "alice", "CHAP_R": "0b="},
        {"CHAP_N": "alice"},
        {"CHAP_R": "PROOF"},
        {"CHAP_A": "5"},
        {"CHAP_N": "alice", "CHAP_R": "PROOF", "CHAP_I": "1"},
        {"CHAP_N": "alice", "CHAP_R": "PROOF", "CHAP_C": "0x01"},
        {"CHAP_N": "alice", "CHAP_R": "PROOF", "CHAP_I": "256", "CHAP_C": "0x01"},
        {"CHAP_N": "alice", "CHAP_R": "PROOF", "CHAP_I": "1", "CHAP_C": "CHALLENGE"},
        {"CHAP_N": "alice", "CHAP_R": "PROOF", "CHAP_I": "1", "CHAP_C": "0x"},
        {},
    ],
)
def test_wrong_chap(door, keys):
    it, answer = begin_chap(door)
    proof = chap_response(5, int(answer["CHAP_I"]), SECRETS.secret, bytes.fromhex(answer["CHAP_C"][2:]))
    values = {"PROOF": proof, "CHALLENGE": answer["CHAP_C"]}
    it.login({key: values.get(value, value) for key, value in keys.items()}, csg=0, nsg=1)
    assert refused(it, LoginStatus.AUTHENTICATION_FAILURE)


def test_long_chap_values_are_format_errors(door):
    it, _ = begin_chap(door)
    it.login({"CHAP_N": "alice", "CHAP_R": "0x" + "00" * 2000}, csg=0, nsg=1)
    assert refused(it, LoginStatus.INITIATOR_ERROR)


def test_same_secret_both_ways_is_refused(door):
    door.credentials = Credentials(name="alice", secret=b"x" * 16, mutual_name="t", mutual_secret=b"x" * 16)
    it, answer = begin_chap(door)
    proof = chap_response(5, int(answer["CHAP_I"]), b"x" * 16, bytes.fromhex(answer["CHAP_C"][2:]))
    it.login({"CHAP_N": "alice", "CHAP_R": proof, "CHAP_I": "1", "CHAP_C": "0x01"}, csg=0, nsg=1)
    assert refused(it, LoginStatus.AUTHENTICATION_FAILURE)


def test_mutual_chap_without_a_secret_of_ours(door):
    door.credentials = Credentials(name="alice", secret=b"x" * 16)
    it, answer = begin_chap(door)
    proof = chap_response(5, int(answer["CHAP_I"]), b"x" * 16, bytes.fromhex(answer["CHAP_C"][2:]))
    it.login({"CHAP_N": "alice", "CHAP_R": proof, "CHAP_I": "1", "CHAP_C": "0x01"}, csg=0, nsg=1)
    assert refused(it, LoginStatus.AUTHENTICATION_FAILURE)


@pytest.mark.parametrize(
    ("keys", "csg"),
    [
        ({}, 1),  # straight to the operational stage
        ({}, 0),  # through the security stage without a word
        ({"AuthMethod": "None"}, 0),
        ({"AuthMethod": "KRB5,SRP"}, 0),
        ({"X-unknown": "1"}, 0),
    ],
)
def test_authentication_cannot_be_skipped(door, keys, csg):
    it = Initiator(make_policy(door))
    it.login({**hello(), **keys}, csg=csg)
    assert refused(it, LoginStatus.AUTHENTICATION_FAILURE)


def test_authentication_cannot_be_left_half_way(door):
    it, _ = begin_chap(door)
    it.login({}, csg=0, nsg=3)
    assert refused(it, LoginStatus.AUTHENTICATION_FAILURE)


def test_chap_offered_but_not_configured():
    it = Initiator(make_policy())
    it.login(hello(AuthMethod="CHAP"), csg=0)
    assert refused(it, LoginStatus.AUTHENTICATION_FAILURE)


def test_no_common_chap_algorithm(door):
    it, _ = begin_chap(door, "4,9")
    assert refused(it, LoginStatus.AUTHENTICATION_FAILURE)


def test_a_refusal_says_who_it_was(door):
    it = Initiator(make_policy(door))
    it.login(hello())
    assert isinstance(it.event, LoginFailed)
    assert it.event.reason.startswith(f"{INITIATOR}: ")


def test_secrets_are_not_shown():
    assert "secret of" not in repr(SECRETS)


# -- every status --------------------------------------------------------------------------------------------------------


def attempt(
    keys: dict[str, str] | bytes, door: Door | None = None, registry: SessionRegistry | None = None, **fields
) -> Initiator:
    changes = {"registry": registry} if registry is not None else {}
    it = Initiator(make_policy(door, **changes))
    it.login(keys, **fields)
    return it


def test_moved():
    for permanent, status in ((False, LoginStatus.TARGET_MOVED_TEMPORARILY), (True, LoginStatus.TARGET_MOVED_PERMANENTLY)):
        door = Door()
        door.found = Redirect("[2001:db8::1]:3260,2", permanent)
        it = attempt(hello(), door)
        assert refused(it, status)
        assert it.last.data == b"TargetAddress=[2001:db8::1]:3260,2\0"


@pytest.mark.parametrize(
    "status",
    [LoginStatus.AUTHORIZATION_FAILURE, LoginStatus.NOT_FOUND, LoginStatus.TARGET_REMOVED, LoginStatus.SERVICE_UNAVAILABLE,
     LoginStatus.TARGET_ERROR],
)  # fmt: skip
def test_the_gatekeeper_decides(status):
    door = Door()
    door.found = status
    assert refused(attempt(hello(), door), status)


def test_target_not_found():
    assert refused(attempt({**hello(), "TargetName": "iqn.1999-01.x:y"}), LoginStatus.NOT_FOUND)


@pytest.mark.parametrize("keys", [{}, {"TargetName": TARGET}, {"InitiatorName": INITIATOR}, {"AuthMethod": "None"}])
def test_missing_parameter(keys):
    assert refused(attempt(keys, csg=0), LoginStatus.MISSING_PARAMETER)


def test_session_type_not_supported():
    assert refused(attempt(hello(SessionType="Boot")), LoginStatus.SESSION_TYPE_NOT_SUPPORTED)


def test_unsupported_version():
    assert refused(attempt(hello(), version_min=1, version_max=1), LoginStatus.UNSUPPORTED_VERSION)


def test_session_does_not_exist():
    assert refused(attempt(hello(), tsih=77), LoginStatus.SESSION_DOES_NOT_EXIST)


def test_out_of_resources():
    policy = make_policy(registry=SessionRegistry(max_sessions=1))
    logged_in(policy)
    it = Initiator(policy)
    it.login(hello(), isid=b"abcdef")
    assert it.status is LoginStatus.OUT_OF_RESOURCES


def test_too_many_connections():
    policy = make_policy()
    done = logged_in(policy)
    it = Initiator(policy)
    it.login(hello(), tsih=done.params.tsih, cid=5)
    assert it.status is LoginStatus.TOO_MANY_CONNECTIONS


def test_a_discovery_session_takes_no_second_connection():
    policy = make_policy()
    first = Initiator(policy)
    first.login({"InitiatorName": INITIATOR, "SessionType": "Discovery"})
    it = Initiator(policy)
    it.login({"InitiatorName": INITIATOR, "SessionType": "Discovery"}, tsih=first.last.tsih, cid=1)
    assert it.status is LoginStatus.CANNOT_INCLUDE_IN_SESSION


def test_other_pdu_during_login():
    it = Initiator(make_policy())
    it.login(hello(), t=False)
    it.send(encode(NopOut()))
    assert refused(it, LoginStatus.INVALID_DURING_LOGIN)


def test_other_pdu_first_just_closes():
    it = Initiator(make_policy())
    assert it.send(b"G") == []
    assert isinstance(it.event, Closed)
    assert it.send(b"ET / HTTP/1.1\r\n") == []


@pytest.mark.parametrize(
    ("keys", "fields"),
    [
        (hello(), {"csg": 2}),
        (hello(), {"csg": 3}),
        (hello(), {"csg": 1, "nsg": 1}),
        (hello(), {"csg": 1, "nsg": 0}),
        (hello(), {"csg": 0, "nsg": 2}),
        (hello(), {"continues": True}),
        (hello(), {"immediate": False}),
        (hello(TargetAlias="x"), {}),
        (hello(TargetAddress="x"), {}),
        (hello(AuthMethod="None"), {}),
        (hello(MaxBurstLength="512"), {"csg": 0}),
        (hello(MaxRecvDataSegmentLength="511"), {}),
        (hello(MaxRecvDataSegmentLength="16777216"), {}),
        (hello(MaxRecvDataSegmentLength="x"), {}),
        (hello(InitiatorAlias="x" * 256), {}),
        ({**hello(), "InitiatorName": "iqn.x:" + "y" * 220}, {}),
        ({**hello(), "InitiatorName": "nonsense"}, {}),
        ({**hello(), "TargetName": "iqn.a b"}, {}),
        ({**hello(), "InitiatorName": "iqn.x:\u202etxt"}, {}),
        (hello(CHAP_A="5"), {"csg": 0}),
        (hello(AuthMethod="None", CHAP_A="5"), {"csg": 0}),
        (b"InitiatorName=iqn.x:y", {}),
        (b"InitiatorName\0", {}),
        (b"=iqn.x:y\0", {}),
        (b"Initiator Name=iqn.x:y\0", {}),
        (b"K" * 64 + b"=1\0", {}),
        (b"InitiatorName=iqn.x:y\0InitiatorName=iqn.x:y\0", {}),
        (b"InitiatorName=iqn.x:\xff\0", {}),
        (b"InitiatorName=iqn.x:\n\0", {}),
    ],
)  # fmt: skip
def test_initiator_error(keys, fields):
    assert refused(attempt(keys, **fields), LoginStatus.INITIATOR_ERROR)


def test_first_request_with_an_additional_header():
    it = Initiator(make_policy())
    it.send(bytes((0x43, 0x87, 0, 0, 1, 0, 0, 0)) + bytes(44))
    assert refused(it, LoginStatus.INITIATOR_ERROR)


@pytest.mark.parametrize("fields", [{"isid": b"zzzzzz"}, {"tsih": 5}, {"cid": 9}, {"csg": 0, "nsg": 1}])
def test_what_may_not_change_during_login(fields):
    it = Initiator(make_policy())
    it.login(hello(), t=False)
    it.login({}, **fields)
    assert refused(it, LoginStatus.INITIATOR_ERROR)


@pytest.mark.parametrize("second", [{"InitiatorName": "iqn.other:x"}, {"InitiatorAlias": "late"}, {"ImmediateData": "Yes"}])
def test_what_may_not_be_said_twice(second):
    it = Initiator(make_policy())
    it.login(hello(ImmediateData="No"), t=False)
    it.login(second)
    assert refused(it, LoginStatus.INITIATOR_ERROR)


def test_digest_that_we_insist_on():
    policy = make_policy(limits=Limits(header_digest=("CRC32C",)))
    it = Initiator(policy)
    assert it.login(hello(HeaderDigest="None"), t=False)["HeaderDigest"] == "Reject"
    it.login({})
    assert refused(it, LoginStatus.INITIATOR_ERROR)
    done = logged_in(make_policy(limits=Limits(header_digest=("CRC32C",))), HeaderDigest="None,CRC32C", DataDigest="CRC32C")
    assert done.params.header_digest
    assert done.params.data_digest


# -- bounds --------------------------------------------------------------------------------------------------------------


def test_oversized_login_segment_is_answered_without_reading_it():
    it = Initiator(make_policy())
    it.send(bytes((0x43, 0x87, 0, 0, 0, 0xFF, 0xFF, 0xFF)) + bytes(40))
    assert refused(it, LoginStatus.INITIATOR_ERROR)


def test_endless_text_is_refused():
    it = Initiator(make_policy())
    for _ in range(20):
        it.login(b"x" * 8192, t=False, continues=True)
        if it.event is not None:
            break
    assert refused(it, LoginStatus.INITIATOR_ERROR)


def test_endless_login_is_refused():
    it = Initiator(make_policy(max_login_pdus=10))
    it.login(hello(), t=False)
    for _ in range(10):
        it.login({}, t=False)
    assert refused(it, LoginStatus.INITIATOR_ERROR)


def test_deadline():
    it = Initiator(make_policy(login_timeout_seconds=5.0), now=100.0)
    assert it.connection.deadline == 105.0
    assert it.connection.timeout(104.9) == []
    it.login(hello(), t=False)
    assert it.connection.timeout(105.0) == [Closed("login took too long")]
    assert it.connection.timeout(106.0) == []


def test_peer_closes():
    it = Initiator(make_policy())
    it.send(b"")
    assert isinstance(it.event, Closed)


# -- sessions ------------------------------------------------------------------------------------------------------------


def test_session_reinstatement_replaces_at_once():
    policy = make_policy()
    first, second = logged_in(policy), logged_in(policy)
    assert second.admission.kind is AdmissionKind.REINSTATE_SESSION
    assert second.admission.replaced is first.admission.session
    assert second.params.tsih != first.params.tsih
    policy.registry.remove(first.admission.session)
    assert policy.registry.sessions() == [second.admission.session]


def test_another_isid_is_another_session():
    policy = make_policy()
    logged_in(policy)
    other = logged_in(policy, lambda it: it.fields.update(isid=b"other1"))
    assert other.admission.kind is AdmissionKind.NEW
    assert len(policy.registry) == 2


def test_failed_authentication_does_not_touch_a_session(door):
    registry = SessionRegistry()
    kept = logged_in(make_policy(registry=registry))
    it = Initiator(make_policy(door, registry=registry))
    it.login(hello(AuthMethod="CHAP"), csg=0, nsg=1)
    it.login({"CHAP_A": "5"}, csg=0, t=False)
    it.login({"CHAP_N": "alice", "CHAP_R": "0x" + "00" * 16}, csg=0)
    assert isinstance(it.event, LoginFailed)
    assert registry.sessions() == [kept.admission.session]


def test_second_connection_joins_with_the_session_s_keys():
    policy = make_policy(limits=Limits(max_connections=2))
    first = logged_in(policy, MaxConnections="2", ImmediateData="No", MaxBurstLength="65536")
    it = Initiator(policy)
    answer = it.login(hello(MaxBurstLength="512", HeaderDigest="CRC32C"), tsih=first.params.tsih, cid=1)
    assert answer["MaxBurstLength"] == "Reject"
    done = it.event
    assert isinstance(done, LoginComplete)
    assert done.admission.kind is AdmissionKind.ADD_CONNECTION
    assert done.admission.session is first.admission.session
    assert (done.params.max_burst_length, done.params.immediate_data, done.params.header_digest) == (65536, False, True)
    it = Initiator(policy)
    it.login(hello(), tsih=first.params.tsih, cid=2)
    assert it.status is LoginStatus.TOO_MANY_CONNECTIONS


def test_connection_reinstatement():
    policy = make_policy()
    first = logged_in(policy)
    it = Initiator(policy)
    it.login(hello(), tsih=first.params.tsih)
    assert isinstance(it.event, LoginComplete)
    assert it.event.admission.kind is AdmissionKind.REINSTATE_CONNECTION
    assert len(policy.registry) == 1


def test_joining_needs_the_same_nexus():
    policy = make_policy()
    first = logged_in(policy)
    it = Initiator(policy)
    it.login(hello(), tsih=first.params.tsih, isid=b"other1")
    assert it.status is LoginStatus.SESSION_DOES_NOT_EXIST


def test_tsih_goes_round_without_zero_and_reuse():
    registry = SessionRegistry(max_sessions=3)
    policy = make_policy(registry=registry)
    registry._next_tsih = 0xFFFF
    seen = [logged_in(policy, lambda it, n=n: it.fields.update(isid=bytes(5) + bytes((n,)))).params.tsih for n in range(3)]
    assert seen == [0xFFFF, 1, 2]
