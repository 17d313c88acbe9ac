"""The page: static files that a browser gets from the API's address. No build step, nothing from elsewhere."""

from __future__ import annotations

from importlib.resources import files

KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


def asset(name: str) -> tuple[bytes, str] | None:
    """A file of the page and its media type; None: there is none of that name."""
    kind = KINDS.get(name.rpartition(".")[2])
    if kind is None or "/" in name or name.startswith("."):
        return None
    place = files(__name__) / name
    return (place.read_bytes(), kind) if place.is_file() else None
