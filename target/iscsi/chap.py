"""CHAP as the target plays it, one-way and mutual (RFC 7143 §12.1.3, §9.2.1; RFC 1994; algorithm numbers: IANA PPP)."""

import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from enum import Enum, auto

from target.iscsi.names import same_name
from target.iscsi.policy import Credentials
from target.iscsi.text import TextError, format_binary, parse_binary, parse_list, parse_number

ALGORITHMS: dict[int, tuple[str, int]] = {
    5: ("md5", 16),
    6: ("sha1", 20),
    7: ("sha256", 32),
    8: ("sha3_256", 32),
}
"""CHAP_A value to the hash's name and its length in bytes, which is our challenge's length too."""

"""96 bits: shorter secrets are fit for trusted networks only (RFC 7143 §9.2.1)."""
MAX_NAME_BYTES = 255


class ChapError(Exception):
    """Authentication failed; the message is one line, for logs, and holds no secret, challenge or response."""


class Step(Enum):
    """Where the exchange is: which keys are due from the initiator."""

    ALGORITHM = auto()
    RESPONSE = auto()
    DONE = auto()


def response(algorithm: int, identifier: int, secret: bytes, challenge: bytes) -> bytes:
    """CHAP_R: the hash of identifier, secret and challenge (RFC 1994 §4.1)."""
    name, _ = ALGORITHMS[algorithm]
    return hashlib.new(name, bytes((identifier,)) + secret + challenge, usedforsecurity=True).digest()


class ChapExchange:
    """One authentication: give it the security keys of each text, send what it answers; ChapError ends the login.

    The initiator's name stands in no message of it: whoever makes one has chosen the credentials by that name.
    """

    def __init__(
        self,
        credentials: Credentials,
        algorithms: tuple[int, ...],
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._credentials = credentials
        self._algorithms = algorithms
        self._random = random
        self._step = Step.ALGORITHM
        self._algorithm = 0
        self._identifier = 0
        self._challenge = b""

    @property
    def done(self) -> bool:
        """The initiator has proved itself."""
        return self._step is Step.DONE

    def answer(self, keys: Mapping[str, str]) -> list[tuple[str, str]]:
        """Take the CHAP keys of one text and return our own for the next response."""
        if self.done:
            raise ChapError("keys after the end of the exchange")
        handle, required, optional = _STEPS[self._step]
        present = set(keys)
        if not required <= present or not present <= required | optional:
            raise ChapError("keys of another step of the exchange")
        try:
            return handle(self, keys)
        except TextError as error:
            raise ChapError(f"malformed CHAP key: {error}") from None

    def _begin(self, keys: Mapping[str, str]) -> list[tuple[str, str]]:
        offered = [parse_number(item) for item in parse_list(keys["CHAP_A"])]
        chosen = next((item for item in offered if item in self._algorithms and item in ALGORITHMS), None)
        if chosen is None:
            raise ChapError("no common CHAP algorithm")
        self._algorithm = chosen
        self._identifier = self._random(1)[0]
        self._challenge = self._random(ALGORITHMS[chosen][1])
        self._step = Step.RESPONSE
        return [
            ("CHAP_A", str(chosen)),
            ("CHAP_I", str(self._identifier)),
            ("CHAP_C", format_binary(self._challenge)),
        ]

    def _verify(self, keys: Mapping[str, str]) -> list[tuple[str, str]]:
        if ("CHAP_I" in keys) != ("CHAP_C" in keys):
            raise ChapError("CHAP_I without CHAP_C or the other way round")
        given = parse_binary(keys["CHAP_R"], ALGORITHMS[self._algorithm][1])
        due = response(self._algorithm, self._identifier, self._credentials.secret, self._challenge)
        good_name = same_name(keys["CHAP_N"], self._credentials.name)  # no secret: it is sent in clear
        good_response = hmac.compare_digest(given, due)
        if not (good_name and good_response):
            raise ChapError("wrong CHAP name or response")
        answers = self._prove(keys) if "CHAP_C" in keys else []
        self._step = Step.DONE
        return answers

    def _prove(self, keys: Mapping[str, str]) -> list[tuple[str, str]]:
        """Mutual authentication: our answer to the initiator's challenge."""
        theirs = self._credentials
        identifier = parse_number(keys["CHAP_I"])
        if identifier > 255:
            raise ChapError("CHAP_I out of range")
        challenge = parse_binary(keys["CHAP_C"])
        if not theirs.mutual_secret:
            raise ChapError("mutual CHAP asked for, but no secret of ours is set for this host")
        if hmac.compare_digest(challenge, self._challenge):
            raise ChapError("our own challenge came back")
        if hmac.compare_digest(theirs.mutual_secret, theirs.secret):
            raise ChapError("the same secret both ways")
        proof = response(self._algorithm, identifier, theirs.mutual_secret, challenge)
        return [("CHAP_N", theirs.mutual_name), ("CHAP_R", format_binary(proof))]


_Handler = Callable[[ChapExchange, Mapping[str, str]], list[tuple[str, str]]]

_STEPS: dict[Step, tuple[_Handler, set[str], set[str]]] = {
    Step.ALGORITHM: (ChapExchange._begin, {"CHAP_A"}, set()),
    Step.RESPONSE: (ChapExchange._verify, {"CHAP_N", "CHAP_R"}, {"CHAP_I", "CHAP_C"}),
}
"""What each step requires and allows, and what does it."""
