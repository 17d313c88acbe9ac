"""Who writes what: the parts of the data plane's structs (core/wire/nexus.pxd), and those of a pool (core/base/pool.pxd)."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
WIRE = ROOT / "core" / "wire"
PART = re.compile(r"^cdef struct (lnt_\w+):\s+# core/wire/(\w+)\.p\w+", re.M)
FIELD = re.compile(r"^    (lnt_\w+) (\w+)(?:\s+#.*)?$", re.M)
WRITE = r"\.({fields})\.[\w.]+(?:\[[^\]\n]*\])?(?:\.\w+)* *(?:[-+|&*]|//|<<|>>)?=(?!=)"


def owners() -> dict[str, str]:
    """Name of the field that holds a part -> the module that writes it."""
    text = (WIRE / "nexus.pxd").read_text()
    of_part = dict(PART.findall(text))
    return {field: of_part[kind] for kind, field in FIELD.findall(text) if kind in of_part}


def test_every_part_has_an_owner_that_exists() -> None:
    assert len(owners()) >= 12
    for owner in owners().values():
        assert (WIRE / f"{owner}.pyx").exists() or (WIRE / f"{owner}.pxd").exists(), owner


def test_nobody_else_writes_a_part() -> None:
    owner_of = owners()
    write = re.compile(WRITE.format(fields="|".join(owner_of)))
    found = []
    for path in sorted([*WIRE.glob("*.pyx"), *WIRE.glob("*.pxd")]):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            for field in write.findall(line.split("#")[0]):
                if path.stem != owner_of[field]:
                    found.append(f"{path.name}:{number}: {line.strip()} (core/wire/{owner_of[field]} owns it)")
    assert not found, "\n".join(found)


# -- the block core -----------------------------------------------------------------------------------------------------

# Takes the superblock's geometry over when a pool is opened; of the modules below it gives each its part.
EXEMPT = {("log/opening", "super_load")}
OWNER_OF = {                                    # a field of lnt_pool -> the module of core that writes it
    "tag": "log/opening",
    "total_blocks": "log/growth",
    "free_blocks": "base/runs",
    "nodes_without_home": "pages/cache",
    "reserve_blocks": "log/checkpoint",
    "reserved_unused": "objects",
    "next_vid": "nodes",
    "has_sparse": "sparse",
    "next_id": "catalog/slots",
    "failed": "base/trace",
    "fail_detail": "base/trace",
    "traced": "base/trace",
    "memory_retry_us": "base/trace",
    "counts_high": "space/counts",
    "can_discard": "space/medium",
    "run_used": "base/runs",
    "run_busy": "base/runs",
    "summary_dirty": "base/runs",
    "n_runs": "base/runs",
    "free_runs": "base/runs",
    "held_blocks": "base/runs",
    "nodes_free": "base/runs",
    "run_cursor": "base/runs",
    "arrival_cursor": "space/allocation",
    "marked_cursor": "space/allocation",
    "fresh_cursor": "space/allocation",
    "fit_cursor": "space/allocation",
    "fit_block": "space/allocation",
    "cache": "pages/cache",
    "journal": "log/journal",
    "checkpoint": "log/checkpoint",
    "checkpoint_wait": "base/checkpoint_wait",
    "superblock": "log/superblock",
    "dropped_waiting": "space/dropped",
    "dropped_homes": "space/dropped",
    "dropped_ready": "space/dropped",
    "homes": "space/homes",
    "damage": "pages/damage",
    "marks": "space/marks",
    "holes": "space/holes",
    "budget": "space/budget",
    "ordering": "ops/order",
    "medium": "space/medium",
    "pieces": "ops/transfer",
    "n_pieces": "ops/transfer",
    "spare_pieces": "ops/transfer",
    "arrivals": "ops/ranges",
    "epoch": "space/dropped",
    "inflight": "ops/epochs",
    "booked_blocks": "ops/epochs",
    "bookers": "ops/epochs",
    "grace": "space/dropped",
    "objects_by_id": "objects",
    "objects_mask": "objects",
    "n_objects": "objects",
    "dirty_objects": "objects",
    "dirty_catalog_pages": "objects",
    "catalog_page_rounds": "objects",
    "catalog_round": "objects",
    "catalog_slots": "catalog/slots",
    "slot_kind": "catalog/slots",
    "slot_capacity": "catalog/slots",
    "slot_hint": "catalog/slots",
    "devices": "pool/turn",
    "background_device": "pool/turn",
    "background_op": "pool/turn",
    "background_waits": "pool/turn",
    "checkpoint_op": "pool/turn",
    "checkpoint_waits": "pool/turn",
    "now_us": "pool/turn",
    "admin_head": "ops/admin",
    "admin_tail": "ops/admin",
    "admin_runs": "ops/admin",
    "stat_reclaimed": "space/dropped",
    "stat_rmw": "ops/transfer",
    "stat_moved": "ops/placing",
    "stat_copied": "ops/transfer",
    "stat_pending_blocks": "space/dropped",
    "spare_requests": "base/schedule",
}
# Said when the pool is opened, or by whoever opened it, or each module's own hints.
FIXED = {"lock", "uuid", "read_only", "replaying", "closing", "mutations", "zeros", "cache_token", "name", "identity", "lease_us",
         "goals", "scratch", "trace", "catalog", "current_device"}
POOL_WRITE = re.compile(r"\bp\.(\w+)(?:\.\w+|\[[^\]]*\])* *(?:[-+|&*]|//|<<|>>)?=(?!=)"
                        r"|\bring_(?:push|ready)\(&p\.(\w+)|\bfree\(p\.(dropped_\w+)")


DEFINED = re.compile(r"^ *(?:cdef|def|cpdef) [^=(]*?(\w+)\(")


def writers() -> dict[str, set[tuple[str, str]]]:
    """A field -> the modules and functions that write it."""
    found: dict[str, set[tuple[str, str]]] = {}
    for path in sorted((ROOT / "core").rglob("*.p*")):
        if path.suffix in (".pyx", ".pxd", ".pxi"):
            name = path.relative_to(ROOT / "core").with_suffix("").as_posix()
            function = ""
            for line in path.read_text().splitlines():
                begun = DEFINED.match(line)
                function = begun[1] if begun else function
                for match in POOL_WRITE.finditer(line.split("#")[0]):
                    found.setdefault(match[match.lastindex or 1], set()).add((name, function))
    return found


def test_nobody_else_writes_a_field_of_a_pool() -> None:
    found = writers()
    assert ("base/runs", "run_changed") in found["free_blocks"]
    assert ("space/dropped", "drop_unused") in found["dropped_ready"]
    others = {(field, *place) for field, owner in OWNER_OF.items() for place in found.get(field, set()) - EXEMPT
              if place[0] != owner}
    assert others == set()


def test_every_field_of_a_pool_has_an_owner_that_writes_it() -> None:
    text = (ROOT / "core" / "base" / "pool.pxd").read_text().split("cdef struct lnt_pool:\n", 1)[1].split("\n\n", 1)[0]
    fields = re.findall(r"^    \w+ \**(\w+)(?:\[\w+\])?(?:\s+#.*)?$", text, re.M)
    assert len(fields) > 70
    assert set(fields) - FIXED == set(OWNER_OF)
    missing = [owner for owner in OWNER_OF.values() if not list((ROOT / "core").glob(f"{owner}.p*"))]
    assert not missing
