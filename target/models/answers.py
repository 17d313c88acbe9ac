"""What the API answers, as types: the rows of listings, jobs, events, errors. Schemas of /openapi.json are made of these."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict


class ErrorBody(TypedDict):
    """What was refused or failed: a code that stays what it is, and one line for people."""

    code: str
    message: str


class Error(TypedDict):
    error: ErrorBody


class Version(TypedDict):
    version: str
    api: Literal["v1"]
    pool_format: int


class Health(TypedDict):
    status: Literal["ok", "unready"]
    why: NotRequired[str]


class Made(TypedDict):
    """An object that a command made or changed."""

    name: str
    kind: Literal["volume", "snapshot", "clone"]
    id: int
    size_bytes: int
    lun: int | None
    url: str | None
    iops: int | None
    bandwidth_bytes: int | None
    burst_seconds: float | None
    note: str | None
    asked_bytes: NotRequired[int]
    holds: NotRequired[list[str]]
    safety: NotRequired[str | None]
    host: NotRequired[str]


class Labelled(TypedDict):
    name: str
    labels: dict[str, str]


class Grown(TypedDict):
    name: str
    size_bytes: int
    asked_bytes: int


class Connected(TypedDict):
    host: str
    lun: int


class Object(TypedDict):
    """A volume, snapshot or clone, with its accounting. `exclusive_bytes` is null where it is not known."""

    name: str
    kind: Literal["volume", "snapshot", "clone"]
    id: int
    size_bytes: int
    mapped_bytes: int
    exclusive_bytes: int | None
    origin: str | None
    origin_id: int | None
    origin_deleted: bool
    orphan: bool
    lun: int | None
    url: str | None
    block_bytes: int
    physical_block_bytes: int
    created_s: float
    serial: str
    guid: str
    labels: dict[str, str]
    checksum: bool
    quota_bytes: int
    reserve_bytes: int
    iops: int | None
    bandwidth_bytes: int | None
    burst_seconds: float | None
    holds: list[str]
    in_use: bool
    damaged_pages: int
    connections: list[Connected]


class SessionRow(TypedDict):
    """A normal session of an initiator."""

    initiator: str
    isid: str
    peer: str
    host: str | None
    tsih: int
    started_s: float
    connections: int
    luns: int
    in_use: list[int]


class HostLun(TypedDict):
    lun: int
    name: str | None


class HostRow(TypedDict):
    """A host, never its secrets."""

    name: str
    initiators: list[str]
    chap: str | None
    mutual_chap: bool
    events: bool
    iops: int | None
    bandwidth_bytes: int | None
    burst_seconds: float | None
    luns: list[HostLun]


class JobRow(TypedDict):
    """Long work: how far it is, in `unit`, and how fast."""

    id: int
    kind: str
    names: list[str]
    state: Literal["running", "done", "failed", "cancelled"]
    unit: str
    done: int
    total: int | None
    left: int | None
    percent: float | None
    rate_per_second: float
    left_seconds: float | None
    started_s: float
    finished_s: float | None
    seconds: float
    message: str
    by: str
    cancellable: bool


class EventRow(TypedDict):
    """A change. `lost` as its kind: some between were dropped, read the listings again."""

    id: str
    at_s: float
    kind: str
    names: list[str]
    data: dict[str, Any]


class AuditRow(TypedDict):
    """Who did what, and what came of it: `ok`, or an error's code."""

    id: int
    at_s: float
    identity: str
    command: str
    arguments: dict[str, Any]
    result: str
    message: str
    seconds: float


class TokenRow(TypedDict):
    name: str
    scope: Literal["read", "operate", "admin"]
    prefix: str
    created_s: float
    expires_s: float | None
    expired: bool


class TokenMade(TokenRow):
    """The only time that a token is shown."""

    token: str


class RepositoryRow(TypedDict):
    """Where a repository is. What is in it no daemon reads."""

    name: str
    url: str
    key_file: str | None


class PeerCertificateRow(TypedDict):
    """By what peers know this pool."""

    certificate: str
    fingerprint: str


class PeerRow(TypedDict):
    """`send`: patterns of volumes here that it may write as replicas; `receive`: of those that may be mirrored to it."""

    name: str
    address: str
    fingerprint: str
    send: list[str]
    receive: list[str]


MirrorRole = Literal["primary", "demoting", "replica", "superseded"]
MirrorState = Literal["waiting", "sending", "ok", "failed", "diverged", "paused", "demoting", "replica", "superseded"]
"""Of a primary how its rounds do; of any other its role."""


class MirrorRow(TypedDict):
    """`lag_s`: since the last snapshot that both sides have was taken; null: there is none. Counts since the daemon's start."""

    name: str
    peer: str
    role: MirrorRole
    state: MirrorState
    epoch: int
    group: str | None
    rpo_s: float
    limit_bytes: int
    standby: bool
    paused: bool
    complete: bool
    lag_s: float | None
    late: bool
    published_s: float | None
    guid: str
    rounds: int
    skipped: int
    round_s: float
    sent_bytes: int
    pending_bytes: int | None
    last_success_s: float | None
    problem: str | None


class Promoted(TypedDict):
    """`lost_s`: how old what was promoted is, where the primary was not demoted before."""

    name: str
    role: str
    epoch: int
    lost_s: float
    note: str | None


class Resolved(TypedDict):
    """`safety`: the snapshot of what the side held that gave way, which is `where`."""

    name: str
    role: str
    safety: str | None
    where: str


class ScheduleRow(TypedDict):
    name: str
    select: str
    cron: str
    zone: str
    keep: str
    group: bool
    paused: bool
    next_run_s: float | None
    done_s: float
    volumes: list[str]
    snapshots: int
    deleting: bool
    note: str | None
    last: dict[str, Any] | None


class Confirmed(TypedDict):
    clock: Literal["confirmed"]
    wall_s: float


class Foreseen(TypedDict):
    """One run of a schedule that is to come."""

    at_s: float
    at: str
    take: list[str]
    delete: list[str]


class ConfigurationDocument(TypedDict):
    """`configuration` is what an import takes; `secrets` only for who asked for them by the Unix socket."""

    configuration: dict[str, Any]
    secrets: dict[str, Any] | None


class Imported(TypedDict):
    """What an import changed, or would, in words; how much was so already; objects that are not there."""

    changes: list[str]
    unchanged: int
    skipped: list[str]
    dry_run: bool


class GroupRow(TypedDict):
    group: int
    state: str
    portals: list[str]


class RedirectRow(TypedDict):
    host: str
    address: str
    permanent: bool


class TargetRow(TypedDict):
    name: str
    portals: list[str]
    groups: list[GroupRow]
    redirects: list[RedirectRow]


class ThresholdsRow(TypedDict):
    space: Literal["ok", "soft", "hard"]
    soft_percent: int
    hard_percent: int


class PoolRow(TypedDict):
    """The pool: its name and state, and numbers of the engine beside."""

    name: str
    uuid: str
    size_bytes: int
    used_bytes: int
    available_bytes: int
    objects: int
    read_only: bool
    space: Literal["ok", "soft", "hard"]
    failure: str
    target: str
    portals: list[str]
    open: bool


class Counters(TypedDict):
    name: str
    lun: int | None
    fast: int
    fast_reads: int
    fast_writes: int
    fast_other: int
    slow: int
    read_bytes: int
    write_bytes: int
    errors: int
    delayed: int
    delayed_us: int
    in_flight: int


class Took(TypedDict):
    """Commands of a direction, and the time that they took together."""

    commands: int
    sum_us: int


class Stats(TypedDict):
    """Counters by object, of the pool and of the data plane."""

    luns: list[Counters]
    pool: dict[str, Any]
    reactors: list[dict[str, Any]]
    sessions: int
    connections: int
    logins: dict[str, int]
    latency: dict[str, Took]
    uptime_s: float


class WorkState(TypedDict):
    """How work on the whole pool stands, or how the last run ended: `state` says so in words."""

    state: str


class DiffRow(TypedDict):
    """First who A and B are; then ranges, with what B holds there."""

    a: NotRequired[dict[str, Any]]
    b: NotRequired[dict[str, Any]]
    offset_bytes: NotRequired[int]
    length_bytes: NotRequired[int]
    content: NotRequired[Literal["data", "hole", "beyond"]]
