"""MaxRecvDataSegmentLength declared anew while Data-In is queued (RFC 7143 §13.12)."""

import pytest

from target.iscsi.pdu import DataIn, ScsiCommand, ScsiResponse, TextRequest, TextResponse, decode
from tests.support.daemon import DaemonProcess
from tests.support.session import Connection, read10


@pytest.mark.parametrize(("before", "after"), [(65536, 512), (512, 65536)])
def test_all_after_the_text_response_keeps_to_the_new_length(daemon: DaemonProcess, before: int, after: int) -> None:
    daemon.cli("create", "v", "--size", "64M")
    it = Connection(daemon.port, daemon.target, MaxRecvDataSegmentLength=str(before))
    sn = 1
    while True:                                     # past the unit attention of a new session
        it.send(ScsiCommand(initiator_task_tag=sn, cmd_sn=sn))
        sn += 1
        if it.receive(ScsiResponse).status == 0:
            break
    for tag in range(8):
        it.send(read10(0, 2048, 100 + tag, sn + tag))
    it.send(TextRequest(initiator_task_tag=50, cmd_sn=sn + 8, data=b"MaxRecvDataSegmentLength=%d\0" % after))
    finished, old, new = 0, set(), set()
    declared = False
    while finished < 9 or not declared:
        while (raw := it.reader.next_pdu()) is None:
            it.reader.feed(it.sock.recv(65536))
        pdu = decode(raw)
        if isinstance(pdu, TextResponse):
            assert (pdu.final, pdu.data) == (True, b"")
            declared = True
            it.send(read10(0, 2048, 108, sn + 9))
            continue
        assert isinstance(pdu, DataIn)
        (new if declared else old).add(len(pdu.data))
        finished += pdu.has_status
    assert max(new) == after
    assert max(old) <= max(before, after)
