"""libiscsi's conformance suite, one process a test with a time limit, skips counted apart (the tool counts them as passes).

`python -m tests.support.libiscsi_suite [--tool PATH] [--only REGEX] URL [URL2]` runs it by hand against any target.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue

TOOL = "iscsi-test-cu"
SECONDS = 60
PASS, SKIP, FAIL, CRASH, HANG = "pass", "skip", "fail", "crash", "hang"

_SUMMARY = re.compile(r"^\s+tests\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)", re.MULTILINE)
_REASON = re.compile(r"\[(?:SKIPPED|FAILED)\] *([^\n]*)|^ +\d+\. (\S+:\d+[^\n]*)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one test came to; `reason` is the tool's first word on why it did not pass."""

    test: str
    outcome: str
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.outcome:5} {self.test}  {self.reason}"


def list_tests(tool: str = TOOL, only: str = "") -> list[str]:
    """The names of all tests, ALL.family.test, that match."""
    listed = subprocess.run([tool, "--list"], capture_output=True, text=True, check=False).stdout.split()
    return [each for each in listed if each.startswith("ALL.") and each.count(".") == 2 and re.search(only, each)]


def run_test(test: str, urls: Sequence[str], *, tool: str = TOOL, seconds: float = SECONDS) -> Verdict:
    """Run one test against a LUN; the multipath tests get it by the last of the URLs too."""
    paths = [urls[0], urls[-1]] if "Multipath" in test else [urls[0]]
    try:
        done = subprocess.run([tool, "-d", "-S", "-v", "-t", test, *paths], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, errors="replace", timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return Verdict(test, HANG)
    body = done.stdout[done.stdout.find("Suite:"):]
    counts, why = _SUMMARY.search(body), _REASON.search(body)
    reason = (why[1] or why[2] or "") if why else ""
    if counts is None or counts[2] == "0":
        return Verdict(test, CRASH, reason)
    if counts[4] != "0":
        return Verdict(test, FAIL, reason)
    return Verdict(test, SKIP, reason) if "[SKIPPED]" in body else Verdict(test, PASS)


def run_tests(tests: Iterable[str], places: Sequence[Sequence[str]], *, tool: str = TOOL) -> list[Verdict]:
    """Run tests, one at a time in each place (the URLs of a LUN that nothing else uses), in no certain order."""
    free: SimpleQueue[Sequence[str]] = SimpleQueue()
    for place in places:
        free.put(place)

    def in_a_free_place(test: str) -> Verdict:
        urls = free.get()
        try:
            return run_test(test, urls, tool=tool)
        finally:
            free.put(urls)

    with ThreadPoolExecutor(len(places)) as pool:
        return list(pool.map(in_a_free_place, tests))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("urls", nargs="+")
    parser.add_argument("--tool", default=TOOL)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    verdicts = run_tests(list_tests(args.tool, args.only), [args.urls], tool=args.tool)
    for verdict in verdicts:
        if verdict.outcome != PASS:
            print(verdict)
    print(len(verdicts), "tests:", dict(Counter(each.outcome for each in verdicts)))
    return int(any(each.outcome not in (PASS, SKIP) for each in verdicts))


if __name__ == "__main__":
    sys.exit(main())
