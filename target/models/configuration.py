"""A pool's configuration as a document: who may log in, what they see, what is limited, what is snapshotted when. No tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from target.models.forms import (
    Arguments,
    Bandwidth,
    Burst,
    Form,
    HostName,
    Initiator,
    LunNumber,
    ObjectName,
    Percent,
    Rate,
    Says,
    Secret,
    VolumeName,
)
from target.models.hosts import ChapName
from target.models.pool import Cron, KeepRule, ScheduleName, Selector, Zone

FORMAT = "lunette-configuration"


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitEntry(Arguments):
    """What a volume or a host may do a second."""

    name: VolumeName
    iops: Rate = 0
    bandwidth_bytes: Bandwidth = 0
    burst_seconds: Burst = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class HostEntry(Arguments):
    """A host. With a `chap_name` it proves a secret, with a `mutual_name` the target does, too; neither stands here."""

    name: HostName
    initiators: list[Initiator] = field(default_factory=list)
    chap_name: ChapName | None = None
    mutual_name: ChapName | None = None
    events: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionEntry(Arguments):
    """An object under a LUN; without a host for everyone."""

    object: ObjectName
    lun: LunNumber
    host: HostName | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleEntry(Arguments):
    name: ScheduleName
    select: Selector
    cron: Cron
    zone: Zone = "UTC"
    keep: KeepRule
    group: bool = False
    paused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdsEntry(Arguments):
    soft_percent: Percent
    hard_percent: Percent


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration(Arguments):
    """The document. `pool` says where it is from, and means nothing to who reads it."""

    format: Literal["lunette-configuration"]
    version: Literal[1]
    pool: str = ""
    hosts: list[HostEntry] = field(default_factory=list)
    connections: list[ConnectionEntry] = field(default_factory=list)
    volume_limits: list[LimitEntry] = field(default_factory=list)
    host_limits: list[LimitEntry] = field(default_factory=list)
    schedules: list[ScheduleEntry] = field(default_factory=list)
    thresholds: ThresholdsEntry | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSecrets(Arguments):
    """A host's secrets, as text."""

    secret: Secret
    mutual_secret: Secret | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationExport(Arguments):
    """Write what the pool's initiators, limits and schedules are as a document that another pool can import."""

    secrets: Annotated[bool, Says("The hosts' secrets beside it: on the Unix socket only.", hidden=True)] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationImport(Arguments):
    """Take hosts, connections, limits, schedules and thresholds from a document: all of it, or nothing."""

    configuration: Annotated[Configuration, Says(hidden=True)]
    secrets: Annotated[Annotated[dict[HostName, HostSecrets], Form("secrets", secret=True)],
                       Says("By the hosts' names.", hidden=True)] = field(default_factory=dict)
    dry_run: Annotated[bool, Says("Only say what would change.")] = False
    partial: Annotated[bool, Says("Leave out what concerns objects that are not there.")] = False
    force: Annotated[bool, Says("Also change what is there and different, even when a session uses it.")] = False
