"""Sans-I/O iSCSI: bytes and a clock in, PDUs, events and deadlines out (RFC 7143).

How a server uses it, one socket at a time (`now` is any monotonic clock in seconds)::

    policy = LoginPolicy(gatekeeper=..., registry=SessionRegistry(), limits=Limits(...))

    conn = LoginConnection(policy, now)
    events = conn.receive(data, now)              # b"" says the peer closed; at most one event comes back
    write(conn.data_to_send())                    # after carrying out the events, see below; may be empty
    conn.timeout(now)                             # when conn.deadline passes, again events

    LoginComplete(params, admission, leftover)
        First end admission.replaced (a reinstated session) or drop the old connection (REINSTATE_CONNECTION), then
        write data_to_send(), then go on by params.session_type: NORMAL to the data plane and a FullFeatureConnection,
        DISCOVERY to a DiscoveryConnection.
    LoginFailed(status, reason)                     write data_to_send(), close
    Closed(reason)                                  close

The session is in the registry from LoginComplete on: call `registry.remove_connection(session, cid)` when the
connection ends, however it ends. `session.handle` is the server's to use.

    disco = DiscoveryConnection(policy, params, admission.session, now)
    disco.receive(leftover, now)                    # and on as with LoginConnection

    full = FullFeatureConnection(policy, params, admission.session)
    for event in full.receive_pdu(RawPdu(bhs, ahs, data)):  # every PDU the data plane does not handle
        SendPdu(bhs, data, has_status)      send; the data plane stamps StatSN, ExpCmdSN, MaxCmdSN (bytes 24..35)
        LogoutRequested(reason, cid, response, closes)  end what is named, send response, close if `closes`
        TaskManagementRequested(request)    perform, send full.task_management_response(request, TaskResponse...)
        SegmentLengthDeclared(length_bytes) tell the data plane before carrying out what follows
        NopReceived(ttt)                    answer to full.ping(ttt)
        Closed(reason)                      close

None of it raises for what a peer sends, and none of it holds more than one PDU and one text (64 KiB) of a peer's bytes.
"""

from target.iscsi.codes import (
    AsyncEvent,
    LoginStatus,
    LogoutReason,
    Opcode,
    RejectReason,
    TaskFunction,
    TaskResponse,
)
from target.iscsi.connection import DiscoveryConnection, FullFeatureConnection
from target.iscsi.events import (
    Closed,
    Event,
    LoginComplete,
    LoginFailed,
    LogoutRequested,
    NopReceived,
    SegmentLengthDeclared,
    SendPdu,
    TaskManagementRequested,
)
from target.iscsi.login import PEER_CLOSED, LoginConnection
from target.iscsi.names import normalize_name, same_name
from target.iscsi.params import NegotiatedParams, SessionType
from target.iscsi.pdu import RawPdu, TaskManagementRequest
from target.iscsi.policy import (
    Credentials,
    Gatekeeper,
    Limits,
    LoginPolicy,
    PortalAddress,
    Redirect,
    TargetInfo,
    TargetRecord,
)
from target.iscsi.session import Admission, AdmissionKind, Session, SessionIdentity, SessionRegistry
from target.iscsi.task_management import missing_cmd_sn

__all__ = [
    "PEER_CLOSED",
    "Admission",
    "AdmissionKind",
    "AsyncEvent",
    "Closed",
    "Credentials",
    "DiscoveryConnection",
    "Event",
    "FullFeatureConnection",
    "Gatekeeper",
    "Limits",
    "LoginComplete",
    "LoginConnection",
    "LoginFailed",
    "LoginPolicy",
    "LoginStatus",
    "LogoutReason",
    "LogoutRequested",
    "NegotiatedParams",
    "NopReceived",
    "Opcode",
    "PortalAddress",
    "RawPdu",
    "Redirect",
    "RejectReason",
    "SegmentLengthDeclared",
    "SendPdu",
    "Session",
    "SessionIdentity",
    "SessionRegistry",
    "SessionType",
    "TargetInfo",
    "TargetRecord",
    "TaskFunction",
    "TaskManagementRequest",
    "TaskManagementRequested",
    "TaskResponse",
    "missing_cmd_sn",
    "normalize_name",
    "same_name",
]
