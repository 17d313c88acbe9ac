"""The forms of values: what a name, a size, a label may be, as types that a model's fields have; and what a field says of itself.

A type here is `Annotated` with a Form, of which `checking.py` makes what the library that checks documents knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

MAX_NAME, MAX_LABEL = 128, 126
MAX_SNAPSHOT_NAME = MAX_NAME + 1 + MAX_LABEL        # what a slot of the catalog has room for
MAX_INITIATOR = 223         # bytes of an iSCSI name (RFC 7143 §4.2.7.1)
MAX_BYTES = 1 << 62
MAX_VOLUME_BYTES = 1 << 56  # what a map of four levels spans
_WORD = "[A-Za-z0-9][A-Za-z0-9._:+-]*"


@dataclass(frozen=True, slots=True)
class Form:
    """What a string or number may be. `what` and `rule` are for people: WHAT has at most ..., VALUE is not RULE."""

    what: str = ""
    rule: str = ""
    pattern: str | None = None
    min_length: int | None = None
    max_length: int | None = None
    ge: float | None = None
    le: int | None = None
    names: bool = False         # what it holds is an object's name: a token's prefix is held against it
    secret: bool = False        # no log and no listing shows it

    LIMITS: ClassVar[tuple[str, ...]] = ("pattern", "min_length", "max_length", "ge", "le")


@dataclass(frozen=True, slots=True)
class Says:
    """One field of a model, for people and for the command line: what it is, and how it is given there.

    An `argument` stands without a flag. A `flag` is the field's name unless it is given. A `hidden` field has no place on the
    command line.
    """

    text: str = ""
    flag: str | None = None
    argument: bool = False
    metavar: str | None = None
    hidden: bool = False


class Arguments:
    """What every model of a command's arguments is: a frozen dataclass, each field once, none that it does not name."""

    __slots__ = ()


VolumeName = Annotated[str, Form(
    "a name", "a name: letters, digits and . _ : + - only, at most 128, beginning with a letter or digit",
    f"^{_WORD}$", 1, MAX_NAME, names=True)]
SnapshotName = Annotated[str, Form(
    "with its label a name", "a snapshot's name: NAME@LABEL, both of letters, digits and . _ : + - only",
    f"^{_WORD}@{_WORD}$", 3, MAX_SNAPSHOT_NAME, names=True)]
ObjectName = Annotated[str, Form(
    "a name", "the name of a volume (NAME) or a snapshot (NAME@LABEL)", f"^{_WORD}(?:@{_WORD})?$", 1,
    MAX_SNAPSHOT_NAME, names=True)]
Label = Annotated[str, Form("a label", "a snapshot's label: letters, digits and . _ : + - only", f"^{_WORD}$", 1, MAX_LABEL)]
NoLabel = Annotated[str, Form("a label", "a snapshot's label, or nothing", f"^(?:{_WORD})?$", None, MAX_LABEL)]
Tag = Annotated[str, Form(
    "a tag", "a tag: letters, digits and . _ : @ / + - only, at most 64, beginning with a letter or digit",
    "^[A-Za-z0-9][A-Za-z0-9._:@/+-]*$", 1, 64)]
Name = Annotated[str, Form("a name", "a name of 1 to 128 characters", None, 1, MAX_NAME)]
HostName = Annotated[str, Form(
    "a host's name", "a name: letters, digits and . _ : + - only, at most 128, beginning with a letter or digit",
    f"^{_WORD}$", 1, MAX_NAME, names=True)]
Initiator = Annotated[str, Form("an iSCSI name", "an initiator's name: iqn.YYYY-MM.DOMAIN:..., eui. or naa.", None, 5,
                                MAX_INITIATOR)]
Secret = Annotated[str, Form("a secret", "a secret", None, 1, 255, secret=True)]
Bytes = Annotated[int, Form("a number of bytes", "a number of bytes", ge=0, le=MAX_BYTES)]
Rate = Annotated[int, Form("a number a second", "a number a second; 0 for no limit", ge=0, le=10**9)]
Bandwidth = Annotated[int, Form("bytes a second", "a number of bytes a second; 0 for no limit", ge=0, le=1 << 50)]
Burst = Annotated[float, Form("a burst", "a burst: 0 to 3600 seconds", ge=0, le=3600)]
VolumeBytes = Annotated[int, Form("a volume's size", "a size: a volume's size is more than 0 and at most 64P", ge=1,
                                  le=MAX_VOLUME_BYTES)]
LunNumber = Annotated[int, Form("a LUN", "a LUN: 0 to 16383", ge=0, le=16383)]
Percent = Annotated[int, Form("a percentage", "a percentage: 1 to 100", ge=1, le=100)]
GroupTag = Annotated[int, Form("a portal group", "a portal group: 1 to 65535", ge=1, le=65535)]
