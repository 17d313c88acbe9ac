"""Suite of mirrors: how far a replica is behind under steady writes, what that costs, how long a failover takes."""

import json
import signal
import threading
import time

from bench import initiator, procstat
from bench.compare.lab import Lab
from bench.measure import Record, Run
from bench.targets import MIB, Lunette, free_port

RATE_BYTES = 100_000_000        # a second
RPO_S = 5.0
SLICE_S = 0.05                  # writes come in slices of so long
SAMPLE_S = 0.5
WIDE_MIB = 1 << 20
EXTENTS, SNAPSHOTS = 100_000, 1000
WAIT_S = 120.0


def mirror(run: Run) -> None:
    """Two daemons that are peers: 100 MB/s of writes at an RPO of 5 s; planned and forced promotions of 1 TiB."""
    for medium in run.media:
        ports = {side: free_port() for side in "ab"}
        sides = {f"-{side}": ("--peer", f"127.0.0.1:{ports[side]}") for side in "ab"}
        with Lab(run, medium, pool_mib=run.plan.size_mib * 6, variants=sides, only=("lunette",)) as lab:
            found = lab.lunettes()
            if len(found) == 2:
                introduce(found, list(ports.values()))
                Trial(run, *found, medium).run()


def introduce(sides: list[Lunette], ports: list[int]) -> None:
    for one, other, port, name in zip(sides, reversed(sides), reversed(ports), "ba", strict=True):
        certificate = one.directory / "peer.pem"
        certificate.write_text(other.cli("peer", "certificate"))
        one.cli("peer", "add", name, "--address", f"127.0.0.1:{port}", "--certificate", str(certificate), "--allow", "send",
                "--allow", "receive")


class Trial:
    """Two targets, the first one primary."""

    def __init__(self, run: Run, a: Lunette, b: Lunette, medium: str) -> None:
        self._run = run
        self._a, self._b = a, b
        self._key: Record = {"medium": medium, "target": "lunette"}

    def run(self) -> None:
        seconds = max(20.0, 20 * self._run.plan.seconds)
        for name, block_bytes in (("128k", 128 << 10), ("4k", 4096)):
            self._lag(f"lag, {name} random writes, 100 MB/s", name, block_bytes, seconds)
        self._promotions()

    # -- how far behind ------------------------------------------------------------------------------------------
    def _lag(self, case: str, name: str, block_bytes: int, seconds: float) -> None:
        size = self._run.plan.size_mib
        url = self._a.add_lun(name, size)
        self._mirrored(name, RPO_S)
        over, samples = threading.Event(), list[Record]()

        def sample() -> None:
            client = self._a.client()
            while not over.wait(SAMPLE_S):
                samples.append(next(row for row in client.get("/v1/mirrors") if row["name"] == name))

        watch = threading.Thread(target=sample)
        before = {side: (procstat.cpu_seconds(side.pid), procstat.python_seconds(side.pid)) for side in (self._a, self._b)}
        began = time.monotonic()
        watch.start()
        try:
            written = steady(url, seconds, block_bytes, size)
        finally:
            over.set()
            watch.join()
        took = time.monotonic() - began
        lags = sorted(row["lag_s"] for row in samples)
        cpu = {side: (procstat.cpu_seconds(side.pid) - whole, procstat.python_seconds(side.pid) - python)
               for side, (whole, python) in before.items()}
        self._run.add(case=case, rep=0, **self._key, stream_mib_s=written / MIB / took, took_s=took,
                      lag_p50_s=lags[len(lags) // 2], lag_p99_s=lags[min(len(lags) - 1, int(len(lags) * 0.99))],
                      skipped=samples[-1]["skipped"] - samples[0]["skipped"],
                      target_cpu_s=sum(whole for whole, _ in cpu.values()),
                      python_percent=100 * cpu[self._a][1] / took, replica_python_percent=100 * cpu[self._b][1] / took)
        self._unmirrored(name)

    # -- failover ------------------------------------------------------------------------------------------------
    def _promotions(self) -> None:
        url = self._a.add_lun("wide", WIDE_MIB, fill=False)
        initiator.run([[url]], WAIT_S, write_percent=100, block_bytes=4096, depth=32, size_mib=WIDE_MIB, most=EXTENTS)
        self._mirrored("wide", RPO_S)
        for side in (self._a, self._b):
            side.batch([f"snapshot wide@{number}" for number in range(SNAPSHOTS)])
        one, other = self._a, self._b
        for repetition in range(self._run.plan.repeats):
            demoted = one.command("demote wide")
            promoted = other.command("promote wide")
            self._run.add(case="planned failover, 1 TiB, 1,000 snapshots", rep=repetition, **self._key,
                          demote_ms=demoted, promote_ms=promoted)
            one, other = other, one
        self._settled(one, "wide")
        assert one.process is not None
        one.process.send_signal(signal.SIGKILL)
        one.process.wait()
        self._run.add(case="forced promotion, 1 TiB, 1,000 snapshots", rep=0, **self._key,
                      promote_ms=other.command("promote wide --force"))

    # -- inside --------------------------------------------------------------------------------------------------
    def _mirrored(self, name: str, rpo_s: float) -> None:
        self._a.cli("mirror", "add", name, "--to", "b", "--rpo", f"{rpo_s}s")
        self._settled(self._a, name)

    def _settled(self, side: Lunette, name: str) -> None:
        """One more round is over."""
        def rounds() -> int:
            return int(next(row["rounds"] for row in side.client().get("/v1/mirrors") if row["name"] == name))
        wanted, until = rounds() + 1, time.monotonic() + WAIT_S
        while rounds() < wanted:
            if time.monotonic() > until:
                raise OSError(f"the mirror of {name} has no round within {WAIT_S:.0f} s")
            time.sleep(0.1)

    def _unmirrored(self, name: str) -> None:
        for side in (self._a, self._b):
            side.cli("mirror", "rm", name)
            mine = [row["name"] for row in json.loads(side.cli("ls", "--json")) if row["name"].partition("@")[0] == name]
            side.cli("delete", "--force", *mine)


def steady(url: str, seconds: float, block_bytes: int, size_mib: int) -> int:
    """Write at RATE_BYTES a second, or as fast as it goes; bytes written."""
    most, written, began = max(1, round(RATE_BYTES * SLICE_S / block_bytes)), 0, time.monotonic()
    with initiator.Load([[url]]) as load:
        while (now := time.monotonic() - began) < seconds:
            ahead_s = written / RATE_BYTES - now
            if ahead_s > 0:
                time.sleep(ahead_s)
            written += block_bytes * load.drive(WAIT_S, write_percent=100, block_bytes=block_bytes, depth=32,
                                                size_mib=size_mib, most=most)["ios"]
    return written
