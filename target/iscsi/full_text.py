"""Text requests in the full feature phase: one negotiation at a time, long answers in parts (RFC 7143 §11.10, §11.11)."""

from collections.abc import Callable

from target.iscsi.codes import RESERVED_TAG, RejectReason
from target.iscsi.discovery import answer_send_targets
from target.iscsi.keys import KEYS, Result, Use
from target.iscsi.negotiation import parse_value
from target.iscsi.params import NegotiatedParams
from target.iscsi.pdu import TextRequest, TextResponse
from target.iscsi.policy import TargetRecord
from target.iscsi.text import NOT_UNDERSTOOD, REJECT, TextCollector, TextError, build_pairs, parse_pairs

Pairs = list[tuple[str, str]]


class TextExchange:
    """Answers the Text Requests of one connection. An answer is a TextResponse, or a RejectReason for a Reject PDU."""

    def __init__(self, params: NegotiatedParams, targets: Callable[[], list[TargetRecord]]) -> None:
        self._params = params
        self._targets = targets
        self.segment_bytes = params.initiator_max_recv_data_segment_length
        self._next_tag = 1
        self._reset()

    def _reset(self) -> None:
        self._collector = TextCollector()
        self._tag = RESERVED_TAG
        self._task = RESERVED_TAG
        self._pending = b""
        self._seen: set[str] = set()
        self._declared = 0

    def receive(self, request: TextRequest) -> TextResponse | RejectReason:
        """Answer one request; a refused one also ends the negotiation it belonged to (RFC 7143 §7.10)."""
        try:
            return self._receive(request)
        except TextError:
            self._reset()
            return RejectReason.PROTOCOL_ERROR

    def _receive(self, request: TextRequest) -> TextResponse | RejectReason:
        if request.target_transfer_tag == RESERVED_TAG:
            self._reset()  # a new negotiation drops the one that was under way
            self._task = request.initiator_task_tag
        elif request.target_transfer_tag != self._tag or request.initiator_task_tag != self._task:
            return RejectReason.INVALID_PDU_FIELD
        if request.final and request.continues:
            raise TextError("F and C bits together")
        if self._pending:
            if request.data or request.continues:
                raise TextError("text where an empty request was due")
        else:
            text = self._collector.add(request.data, request.continues)
            if text is not None:
                self._pending = build_pairs(self._answers(parse_pairs(text)))
        return self._next_part(request)

    def _next_part(self, request: TextRequest) -> TextResponse:
        most = min(self.segment_bytes, self._declared or self.segment_bytes)
        part, self._pending = self._pending[:most], self._pending[most:]
        over = request.final and not self._pending
        if not over and self._tag == RESERVED_TAG:
            self._tag = self._next_tag
            self._next_tag = self._next_tag % (RESERVED_TAG - 1) + 1
        response = TextResponse(
            final=over,
            continues=bool(self._pending),
            lun=request.lun,
            initiator_task_tag=request.initiator_task_tag,
            target_transfer_tag=RESERVED_TAG if over else self._tag,
            data=part,
        )
        if over:
            self.segment_bytes = self._declared or self.segment_bytes
            self._reset()
        return response

    def _answers(self, pairs: dict[str, str]) -> Pairs:
        answers: Pairs = []
        for key, value in pairs.items():
            if key in self._seen:
                raise TextError(f"{key} twice in one negotiation")
            self._seen.add(key)
            answers += self._answer(key, value)
        return answers

    def _answer(self, key: str, value: str) -> Pairs:
        spec = KEYS.get(key)
        if spec is None and key.lower().startswith("sendtargets"):
            raise TextError("a misspelt SendTargets")  # a question, not a private key: say that it was not taken for one
        if spec is None:
            return [] if value == NOT_UNDERSTOOD else [(key, NOT_UNDERSTOOD)]
        if len(value.encode()) > spec.max_bytes:
            raise TextError(f"value of {key} too long")
        if spec.result is Result.QUERY:
            params = self._params
            return answer_send_targets(value, params.session_type, params.target_name, self._targets())
        if spec.name == "MaxRecvDataSegmentLength":
            return self._segment_length(value)
        if spec.result is Result.DECLARED and spec.use is Use.ALL and spec.name == "InitiatorAlias":
            return []
        return [(key, REJECT)]

    def _segment_length(self, value: str) -> Pairs:
        """Another length may be declared any time (RFC 7143 §13.12); it holds when the negotiation ends."""
        spec = KEYS["MaxRecvDataSegmentLength"]
        try:
            declared = parse_value(spec, value)
        except TextError:
            return [(spec.name, REJECT)]
        self._declared = int(declared)
        return []
