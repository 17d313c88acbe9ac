"""Sizes in words for people: the one way in which messages and listings write them."""


def format_size(size_bytes: int) -> str:
    """Bytes for people: exact where a unit divides them, else one decimal."""
    for unit, scale in (("P", 1 << 50), ("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)):
        if size_bytes >= scale:
            return f"{size_bytes // scale}{unit}" if size_bytes % scale == 0 else f"{size_bytes / scale:.1f}{unit}"
    return str(size_bytes)
