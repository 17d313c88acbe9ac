"""Histograms of what commands take (core/wire/latency.pyx). Python reads them through `Reactor.latencies`."""

def bucket_of(us: int) -> int:
    """Which bucket counts a command that took so many microseconds. For tests."""
