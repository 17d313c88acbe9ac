"""Build the native core: one extension a Cython module, constants generated from the layout tables.

Cython reckons which modules a `.pxd`, `.pxi` or header concerns, and translates those. `BuildChanged` then compiles a
module only when what the compiler would read is different, whatever the files' times say.
"""

import hashlib
import os
import runpy
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).parent
BUILT = os.environ.get("LUNETTE_BUILT")            # the extensions are in place: install only what points at them
SANITIZE = os.environ.get("LUNETTE_SANITIZE", "")  # "address,undefined": the core alone, as `make fuzz` runs it
OPTIMIZE = "1" if SANITIZE else os.environ.get("LUNETTE_OPTIMIZE", "3")    # the level after -O; `make dev` takes 1


def write_layout_headers() -> None:
    """Write core/_layout.h and core/stream/_stream.h, so that C and Python read one table of offsets of each format."""
    sys.path.insert(0, str(HERE))      # the stream's table uses the disk's
    (HERE / "core" / "stream" / "_layout.h").unlink(missing_ok=True)     # an earlier build's: taken for the disk's in that folder
    for table, name in (("core/layout.py", "core/_layout.h"), ("core/stream/layout.py", "core/stream/_stream.h")):
        header = runpy.run_path(str(HERE / table))["c_header"]()
        path = HERE / name
        if not path.exists() or path.read_text() != header:
            path.write_text(header)


def extensions() -> list[Extension]:
    cflags = [f"-O{OPTIMIZE}", "-g1" if OPTIMIZE == "3" else "-g", "-std=gnu11", "-fno-strict-aliasing"]
    ldflags = ["-ldl", "-lpthread"]
    if SANITIZE:
        cflags += ["-DLNT_CHECKED", f"-fsanitize={SANITIZE}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-w"]
        ldflags += [f"-fsanitize={SANITIZE}"]
    else:
        cflags += ["-Wno-unused-function", "-Wno-cpp", "-Wno-sign-compare", "-Wno-maybe-uninitialized",
                   "-Wno-array-bounds"]
    return [
        Extension(".".join(p.with_suffix("").parts), [str(p)], include_dirs=["core"],
                  extra_compile_args=cflags, extra_link_args=ldflags)
        for folder in (("core",) if SANITIZE else ("core", "bench"))
        for p in sorted(p.relative_to(HERE) for p in (HERE / folder).rglob("*.pyx"))
    ]


class BuildChanged(build_ext):
    """Compiles a module when its C, its headers or its options differ from those of the object that is there."""

    def build_extension(self, ext: Extension) -> None:
        read = hashlib.sha256(repr((ext.extra_compile_args, ext.extra_link_args)).encode())
        for path in (*ext.sources, *sorted(ext.depends)):
            read.update(Path(path).read_bytes())
        note = Path(self.build_temp, f"{ext.name}.compiled-from")
        if note.exists() and note.read_text() == read.hexdigest() and Path(self.get_ext_fullpath(ext.name)).exists():
            return
        note.unlink(missing_ok=True)
        self.force = True
        super().build_extension(ext)
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(read.hexdigest())


write_layout_headers()
setup(
    cmdclass={"build_ext": BuildChanged},
    ext_modules=[] if BUILT else cythonize(
        extensions(), nthreads=os.cpu_count() or 1, emit_linenums=True,
        compiler_directives={"language_level": "3", "embedsignature": False, "boundscheck": True,
                             "wraparound": False, "initializedcheck": False, "cdivision": True},
    ),
)
