"""Keys: what a repository's objects are encrypted with, named by, and recognized by. No key is ever logged or listed.

With a key file everything but `lunette.json` is AES-256-GCM, a random 96-bit nonce before each object or frame, its kind as
associated data. Both keys are derived from the file's 32 bytes by HKDF-SHA-256 with the repository's id as salt.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from pathlib import Path

from target.errors import LunetteError
from target.repository.format import Malformed

KEY_BYTES = 32
NONCE_BYTES = 12
DIGEST_BYTES = 16
HEADING = "lunette-repository-key-1:"
MAX_KEY_FILE = 4096


def make_key_file(path: str) -> None:
    """A new key in a new file of mode 0600. LunetteError exists, invalid."""
    text = HEADING + base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode() + "\n"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
    except FileExistsError:
        raise LunetteError("exists", f"{path} is there already: a key is never overwritten") from None
    except OSError as error:
        raise LunetteError("invalid", f"cannot make the key file {path}: {error.strerror}") from None


def read_key_file(path: str) -> bytes:
    """LunetteError invalid, which shows nothing of the contents."""
    try:
        with Path(path).open("rb") as file:
            text = file.read(MAX_KEY_FILE).decode()
        if text.startswith(HEADING) and len(key := base64.b64decode(text[len(HEADING):].strip(), validate=True)) == KEY_BYTES:
            return key
    except OSError as error:
        raise LunetteError("invalid", f"cannot read the key file {path}: {error.strerror}") from None
    except ValueError:
        pass
    raise LunetteError("invalid", f"{path} is no key file")


class Sealer:
    """How a repository without a key keeps things: as they are, named by SHA-256."""

    cipher: str | None = None

    def seal(self, kind: str, data: bytes) -> bytes:
        return data

    def open(self, kind: str, data: bytes) -> bytes:
        """Malformed when it is not what was sealed, or by another key."""
        return data

    def name(self, data: bytes) -> str:
        """What an object of this content is called."""
        return hashlib.sha256(data).hexdigest()

    def digest(self, data: bytes) -> bytes:
        """What a frame's content is known by."""
        return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


class AesSealer(Sealer):
    """The same with a key."""

    cipher = "aes-256-gcm"

    def __init__(self, key: bytes, repository_id: str) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        derived = HKDF(SHA256(), 2 * KEY_BYTES, repository_id.encode(), b"lunette repository").derive(key)
        self._cipher = AESGCM(derived[:KEY_BYTES])
        self._naming = derived[KEY_BYTES:]

    def seal(self, kind: str, data: bytes) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, data, kind.encode())

    def open(self, kind: str, data: bytes) -> bytes:
        from cryptography.exceptions import InvalidTag

        try:
            return self._cipher.decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], kind.encode())
        except (InvalidTag, ValueError):
            raise Malformed("it does not open with this key") from None

    def name(self, data: bytes) -> str:
        return hmac.new(self._naming, data, "sha256").hexdigest()

    def digest(self, data: bytes) -> bytes:
        return hashlib.blake2b(data, digest_size=DIGEST_BYTES, key=self._naming).digest()
