"""Arguments of the commands on volumes, snapshots and clones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from target.models.forms import (
    Arguments,
    Bandwidth,
    Burst,
    Bytes,
    Form,
    HostName,
    LunNumber,
    NoLabel,
    ObjectName,
    Rate,
    Says,
    SnapshotName,
    Tag,
    VolumeBytes,
    VolumeName,
)

BlockBytes = Literal[512, 4096]
LabelKey = Annotated[str, Form("a label's key", "the key of a label", None, 1, 160)]
LabelValue = Annotated[str, Form("a label's value", "the value of a label", None, 0, 160)]
QUOTA = "At most so many bytes of the pool; 0 for no limit."
RESERVE = "Bytes of the pool kept for this volume."
IOPS = "At most so many commands a second, of all its sessions; 0 for no limit."
BANDWIDTH = "At most so many bytes a second, read and written; 0 for no limit."
BURST = "What was not used in so long may be used later: 500ms, 10s.  [default: 100ms]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Create(Arguments):
    """Create a volume. It is thin: it takes space as it is written."""

    name: Annotated[VolumeName, Says(argument=True)]
    size_bytes: Annotated[VolumeBytes, Says("10G, 512M ...", flag="--size")]
    block_bytes: Annotated[BlockBytes, Says("Logical block; the map's grain is 4096 either way.", flag="--block-size")] = 512
    physical_block_bytes: Annotated[BlockBytes | None, Says("What hosts are told to align to.  [default: 4096]",
                                                            flag="--physical-block")] = None
    checksum: Annotated[bool, Says("Keep and verify a CRC32C of every data block.")] = False
    quota_bytes: Annotated[Bytes, Says("At most so many bytes of the pool.", flag="--quota")] = 0
    reserve_bytes: Annotated[Bytes, Says(RESERVE, flag="--reserve")] = 0
    labels: Annotated[dict[LabelKey, LabelValue], Says(flag="--label", metavar="KEY=VALUE")] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot(Arguments):
    """Freeze a volume's contents as NAME@LABEL; several volumes at one instant."""

    names: Annotated[Annotated[list[SnapshotName], Form("names", "a list of names", None, 1, 4096, names=True)] | SnapshotName,
                     Says(argument=True, metavar="NAME@LABEL...")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clone(Arguments):
    """Make a writable volume NAME from a snapshot or a live volume, without copying."""

    source: Annotated[ObjectName, Says(argument=True)]
    name: Annotated[VolumeName, Says(argument=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete(Arguments):
    """Delete volumes, snapshots or clones, in any order."""

    names: Annotated[Annotated[list[ObjectName], Form("names", "a list of names", None, 1, 4096, names=True)] | ObjectName,
                     Says(argument=True, metavar="NAME[@LABEL]...")]
    force: Annotated[bool, Says("Even when a session has it open; never when it is held.")] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold(Arguments):
    """Keep an object from being deleted, by --force too, until the TAG is released."""

    name: Annotated[ObjectName, Says(argument=True, metavar="NAME[@LABEL]")]
    tag: Annotated[Tag, Says(argument=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Release(Arguments):
    """Let go of an object that is held by TAG."""

    name: Annotated[ObjectName, Says(argument=True, metavar="NAME[@LABEL]")]
    tag: Annotated[Tag, Says(argument=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Revert(Arguments):
    """Give the volume that a snapshot was taken of its contents again; newer snapshots stay."""

    name: Annotated[SnapshotName, Says(argument=True, metavar="NAME@LABEL")]
    safety: Annotated[NoLabel, Says("Snapshot the present contents under this label first.", metavar="LABEL")] = ""
    force: Annotated[bool, Says("Even when a session has it open, or its size changes.")] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize(Arguments):
    """Change a volume's size, under live initiators."""

    name: Annotated[ObjectName, Says(argument=True)]
    size_bytes: Annotated[VolumeBytes, Says(argument=True, metavar="SIZE")]
    force: Annotated[bool, Says("Also make it smaller, which loses its end.")] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rename(Arguments):
    """Rename an object; a volume's snapshots follow. Identities and connections stay."""

    name: Annotated[ObjectName, Says(argument=True)]
    new_name: Annotated[ObjectName, Says(argument=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetLabels(Arguments):
    """Set labels (KEY=VALUE) or remove them (KEY-)."""

    name: Annotated[ObjectName, Says(argument=True)]
    set: Annotated[dict[LabelKey, LabelValue], Says("Labels to set.", hidden=True)] = field(default_factory=dict)
    remove: Annotated[list[LabelKey], Says("Keys of labels to remove.", hidden=True)] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Set(Arguments):
    """Change a volume's quota, reservation of space, physical block, or what may be done to it a second."""

    name: Annotated[ObjectName, Says(argument=True)]
    quota_bytes: Annotated[Bytes | None, Says(QUOTA, flag="--quota")] = None
    reserve_bytes: Annotated[Bytes | None, Says(RESERVE, flag="--reserve")] = None
    physical_block_bytes: Annotated[BlockBytes | None, Says("What hosts are told to align to; while none has it open.",
                                                            flag="--physical-block")] = None
    iops: Annotated[Rate | None, Says(IOPS)] = None
    bandwidth_bytes: Annotated[Bandwidth | None, Says(BANDWIDTH, flag="--bandwidth")] = None
    burst_seconds: Annotated[Burst | None, Says(BURST, flag="--burst")] = None
    force: Annotated[bool, Says("Even when a session has it open and more is mapped than the quota.")] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Connect(Arguments):
    """Connect an object as a LUN."""

    name: Annotated[ObjectName, Says(argument=True, metavar="NAME[@LABEL]")]
    lun: Annotated[LunNumber | None, Says("The LUN; the next free one if not given.")] = None
    host: Annotated[HostName | None, Says("Only for this host; without it, for every initiator (daemons with --open).")] = None
    force: Annotated[bool, Says("Even when a session uses another object by that number.")] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnect(Arguments):
    """Take an object's LUNs away; the object stays."""

    name: Annotated[ObjectName, Says(argument=True, metavar="NAME[@LABEL]")]
    host: Annotated[HostName | None, Says("Only from this host.")] = None
    force: Annotated[bool, Says("Even when a session has it open.")] = False
