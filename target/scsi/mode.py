"""Mode pages: current, changeable, default and saved values (SPC-4 §7.5, SBC-4 §6.5)."""

from __future__ import annotations

from typing import Any


class ModePages:
    """The mode pages of one logical unit; shared by all its nexuses."""

    software_write_protect = False
    write_cache_enabled = True
    descriptor_sense = False
    threshold_reporting = True

    def reset(self) -> None:
        """Current values become the saved ones."""

    def saved(self) -> dict[str, Any]:
        return {}

    def load(self, saved: dict[str, Any]) -> None:
        pass
