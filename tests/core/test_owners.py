"""Each part of the data plane's structs is written by the module that its comment names (core/wire/nexus.pxd)."""

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
