"""Build the native core: one extension a Cython module, constants generated from `core/layout.py`."""

import os
import runpy
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

HERE = Path(__file__).parent
BUILT = os.environ.get("LUNETTE_BUILT")         # the extensions are in place: install only what points at them
SANITIZE = os.environ.get("LUNETTE_SANITIZE", "")  # "address,undefined": the core alone, as `make fuzz` runs it


def write_layout_header() -> None:
    """Write core/_layout.h, so that C and Python read one table of on-disk offsets."""
    header = runpy.run_path(str(HERE / "core" / "layout.py"))["c_header"]()
    path = HERE / "core" / "_layout.h"
    if not path.exists() or path.read_text() != header:
        path.write_text(header)


def extensions() -> list[Extension]:
    cflags = ["-O3", "-g1", "-std=gnu11", "-fno-strict-aliasing", "-Wno-unused-function", "-Wno-cpp", "-Wno-sign-compare",
              "-Wno-maybe-uninitialized"]
    ldflags = ["-ldl", "-lpthread"]
    if SANITIZE:
        cflags = ["-O1", "-g1", "-std=gnu11", "-fno-strict-aliasing", f"-fsanitize={SANITIZE}", "-fno-sanitize-recover=all",
                  "-fno-omit-frame-pointer", "-w"]
        ldflags += [f"-fsanitize={SANITIZE}"]
    shared = [p for p in (HERE / "core").iterdir() if p.suffix in (".h", ".pxi", ".pxd")]
    depends = ["core/layout.py", *sorted(str(p.relative_to(HERE)) for p in shared)]
    return [
        Extension(f"{p.parent.name}.{p.stem}", [f"{p.parent.name}/{p.name}"], include_dirs=["core"], depends=depends,
                  extra_compile_args=cflags, extra_link_args=ldflags)
        for folder in (("core",) if SANITIZE else ("core", "bench")) for p in sorted((HERE / folder).glob("_*.pyx"))
    ]


write_layout_header()
setup(
    ext_modules=[] if BUILT else cythonize(
        extensions(), nthreads=os.cpu_count() or 1,
        compiler_directives={"language_level": "3", "embedsignature": False, "boundscheck": True,
                             "wraparound": False, "initializedcheck": False, "cdivision": True},
    ),
)
