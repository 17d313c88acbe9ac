"""A load generator: many logged-in iSCSI sessions driven by one native epoll loop (RFC 7143 §11)."""

def drive(sessions: list[tuple[int, int, int, int]], *, depth: int, write_percent: int, random: bool, block_bytes: int,
          sector_bytes: int, sectors: int, luns: int, lun_fields: bytes, immediate_bytes: int, max_send_bytes: int,
          header_digest: bool, data_digest: bool, seconds: float, seed: int,
          most: int = 0, discard: bool = False,
          ) -> tuple[list[tuple[int, int, int]], list[int], list[tuple[int, int, int, int]]]: ...
def cell_us(cell: int) -> float: ...
