"""What the API manages: the parts of a daemon that commands change and listings read. Whoever wires a daemon fills it."""

from __future__ import annotations

from dataclasses import dataclass

from target.scsi import Target
from target.server.api.holds import Holds
from target.server.background.jobs import Jobs
from target.server.background.monitor import SpaceMonitor
from target.server.background.reclaiming import Reclaiming
from target.server.disks.units import Units
from target.server.iscsi.access import Access
from target.server.iscsi.limits import Limits
from target.server.iscsi.sessions import SessionTable
from target.volumes.catalog import Catalog
from target.volumes.gateway import AsyncPool
from target.volumes.holds import StoredHolds
from target.volumes.mirrors import Mirrors
from target.volumes.replicas import Replicas


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """`holds` are for as long as something reads, `stored_holds` until they are released."""

    pool: AsyncPool
    catalog: Catalog
    target: Target
    access: Access
    table: SessionTable
    units: Units
    limits: Limits
    holds: Holds
    stored_holds: StoredHolds
    monitor: SpaceMonitor
    jobs: Jobs
    mirrors: Mirrors
    replicas: Replicas
    reclaiming: Reclaiming
