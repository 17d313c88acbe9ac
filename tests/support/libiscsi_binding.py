"""The binding to the system's libiscsi, compiled against its installed headers, and nothing else.

The headers say where a field lies; what is declared here are names (cffi's API mode), so any version of the library works.
The compiled module lies in build/, one for each version of headers, Python and this file.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from types import ModuleType

from cffi import FFI

INCLUDES = "#include <stdint.h>\n#include <iscsi/iscsi.h>\n#include <iscsi/scsi-lowlevel.h>\n"
# What is `char *` in one version and `const char *` in another.
ACCESSORS = """
static const char *name_of(struct iscsi_discovery_address *address) { return address->target_name; }
static const char *address_of(struct iscsi_target_portal *portal) { return portal->portal; }
"""
DECLARED = """
static const int ISCSI_SESSION_DISCOVERY, ISCSI_SESSION_NORMAL, ISCSI_HEADER_DIGEST_NONE, ISCSI_HEADER_DIGEST_CRC32C;
static const int SCSI_XFER_NONE, SCSI_XFER_READ, SCSI_XFER_WRITE;
struct iscsi_context;
struct scsi_sense { int key; int ascq; ...; };
struct scsi_data { int size; unsigned char *data; ...; };
struct scsi_task { int status; int residual_status; size_t residual; struct scsi_sense sense; struct scsi_data datain; ...; };
struct iscsi_data { size_t size; unsigned char *data; ...; };
struct iscsi_target_portal { struct iscsi_target_portal *next; ...; };
struct iscsi_discovery_address { struct iscsi_discovery_address *next; struct iscsi_target_portal *portals; ...; };
const char *name_of(struct iscsi_discovery_address *address);
const char *address_of(struct iscsi_target_portal *portal);
struct iscsi_context *iscsi_create_context(const char *initiator_name);
int iscsi_destroy_context(struct iscsi_context *iscsi);
int iscsi_set_targetname(struct iscsi_context *iscsi, const char *name);
int iscsi_set_session_type(struct iscsi_context *iscsi, int type);
int iscsi_set_header_digest(struct iscsi_context *iscsi, int digest);
int iscsi_set_isid_random(struct iscsi_context *iscsi, uint32_t rnd, uint32_t qualifier);
int iscsi_set_initiator_username_pwd(struct iscsi_context *iscsi, const char *user, const char *secret);
int iscsi_set_target_username_pwd(struct iscsi_context *iscsi, const char *user, const char *secret);
int iscsi_set_timeout(struct iscsi_context *iscsi, int seconds);
void iscsi_set_noautoreconnect(struct iscsi_context *iscsi, int state);
int iscsi_connect_sync(struct iscsi_context *iscsi, const char *portal);
int iscsi_login_sync(struct iscsi_context *iscsi);
int iscsi_logout_sync(struct iscsi_context *iscsi);
int iscsi_disconnect(struct iscsi_context *iscsi);
const char *iscsi_get_error(struct iscsi_context *iscsi);
struct iscsi_discovery_address *iscsi_discovery_sync(struct iscsi_context *iscsi);
void iscsi_free_discovery_data(struct iscsi_context *iscsi, struct iscsi_discovery_address *da);
struct scsi_task *scsi_create_task(int cdb_size, unsigned char *cdb, int xfer_dir, int expxferlen);
void scsi_free_scsi_task(struct scsi_task *task);
struct scsi_task *iscsi_scsi_command_sync(struct iscsi_context *iscsi, int lun, struct scsi_task *task, struct iscsi_data *data);
int iscsi_task_mgmt_sync(struct iscsi_context *iscsi, int lun, int function, uint32_t ritt, uint32_t rcmdsn);
"""
NAME = "_libiscsi"
CACHE = Path(__file__).resolve().parents[2] / "build"


def load() -> ModuleType | None:
    """The compiled module (`ffi` and `lib`), made when it is not there yet; None without libiscsi's headers or a compiler."""
    headers = _preprocessed()
    if headers is None:
        return None
    key = hashlib.sha256((headers + ACCESSORS + DECLARED + sys.version).encode()).hexdigest()[:16]
    directory = CACHE / f"libiscsi-{key}"
    path = directory / (NAME + str(sysconfig.get_config_var("EXT_SUFFIX")))
    if not path.exists():
        _compile(directory)
    spec = importlib.util.spec_from_file_location(NAME, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _preprocessed() -> str | None:
    """All that the installed headers say."""
    try:
        done = subprocess.run(["cc", "-E", "-P", "-"], input=INCLUDES, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return None if done.returncode else done.stdout


def _compile(directory: Path) -> None:
    """Make the module in `directory`, which appears whole or not at all: several test runs may come here at once."""
    ffi = FFI()
    ffi.cdef(DECLARED)
    ffi.set_source(NAME, INCLUDES + ACCESSORS, libraries=["iscsi"])
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as made:
        ffi.compile(tmpdir=made)
        try:
            os.rename(made, directory)
            os.mkdir(made)
        except OSError:
            assert directory.is_dir()
