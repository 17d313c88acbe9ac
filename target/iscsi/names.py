"""iSCSI names: the form they are compared in, and what is one (RFC 7143 §4.2.7; RFC 3722)."""

import re
import unicodedata

from target.iscsi.keys import MAX_NAME_BYTES
from target.iscsi.text import TextError

# Laxer than RFC 3722 on purpose: names with an underscore are in wide use and do no harm.
_NAME = re.compile(r"(iqn|eui|naa)\.[^\s,\x00-\x20\x7f]+")


def normalize_name(value: str) -> str:
    """The name as it is compared, stored and looked up: NFKC, lower case. TextError if it is none."""
    name = unicodedata.normalize("NFKC", value.lower()).lower()
    if not _NAME.fullmatch(name) or not name.isprintable() or len(name.encode()) > MAX_NAME_BYTES:
        raise TextError("malformed iSCSI name")
    return name
