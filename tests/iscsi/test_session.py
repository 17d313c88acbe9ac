"""The session registry under random logins and ends: identities stay unique, bounds hold (RFC 7143 §6.3.5)."""

from hypothesis import given
from hypothesis import strategies as st

from target.iscsi import Admission, AdmissionKind, LoginStatus, SessionIdentity, SessionRegistry, SessionType

steps = st.lists(
    st.tuples(
        st.sampled_from(["new", "join", "leave", "end"]),
        st.sampled_from(["a", "b"]),
        st.integers(0, 2),
        st.integers(0, 3),
        st.sampled_from(list(SessionType)),
    ),
    max_size=40,
)


@given(steps)
def test_registry_invariants(actions):
    registry = SessionRegistry(max_sessions=5, max_sessions_per_initiator=3)
    for action, name, isid, cid, kind in actions:
        sessions = registry.sessions()
        identity = SessionIdentity(name, bytes((isid,)) * 6, "t" if kind is SessionType.NORMAL else "", 1)
        some = sessions[cid % len(sessions)] if sessions else None
        if action == "leave" and some is not None:
            last = registry.remove_connection(some, next(iter(some.cids)))
            assert last == (some not in registry.sessions())
        elif action == "end" and some is not None:
            registry.remove(some)
            assert some not in registry.sessions()
        elif action in ("new", "join"):
            tsih = some.tsih if action == "join" and some is not None else 0
            promised = registry.check(identity, kind, tsih, cid)
            got = registry.admit(identity, kind, tsih, cid, 2)
            if isinstance(got, LoginStatus):
                assert got is promised
                assert got is not LoginStatus.SUCCESS
                assert registry.sessions() == sessions
            else:
                assert promised is LoginStatus.SUCCESS
                check_admission(registry, got, sessions)
        live = registry.sessions()
        normal = [each.identity for each in live if each.session_type is SessionType.NORMAL]
        assert len(set(normal)) == len(normal)
        assert len(live) <= 5
        assert all(1 <= len(each.cids) <= 2 for each in live)
        assert len({each.tsih for each in live}) == len(live)
        assert all(1 <= each.tsih <= 0xFFFF for each in live)


def check_admission(registry: SessionRegistry, got: Admission, before: list) -> None:
    assert got.session in registry.sessions()
    if got.kind is AdmissionKind.REINSTATE_SESSION:
        assert got.replaced in before
        assert got.replaced not in registry.sessions()
        assert got.replaced.identity == got.session.identity
    else:
        assert got.replaced is None
    assert (got.session in before) == (got.kind in (AdmissionKind.ADD_CONNECTION, AdmissionKind.REINSTATE_CONNECTION))


def test_one_host_cannot_take_all_sessions():
    registry = SessionRegistry(max_sessions=100, max_sessions_per_initiator=2)
    for n in range(2):
        assert isinstance(registry.admit(SessionIdentity("a", bytes((n,)) * 6, "t", 1), SessionType.NORMAL, 0, 0, 1), Admission)
    third = SessionIdentity("a", b"3" * 6, "t", 1)
    assert registry.admit(third, SessionType.NORMAL, 0, 0, 1) is LoginStatus.OUT_OF_RESOURCES
    other = SessionIdentity("b", b"3" * 6, "t", 1)
    assert isinstance(registry.admit(other, SessionType.NORMAL, 0, 0, 1), Admission)
