"""How long the front door of `lightning` takes to answer, as a person waits for it: new processes, wall-clock time.

    python tests/benchmarks/startup.py [--repeat 9] [--limit 0.5]

Prints the median and the slowest of the repetitions in seconds; with --limit it exits with 1 if a median is above it.
"""

import argparse
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

ANSWERS = {
    "--help": 0,
    "--version": 0,
    "list": 0,
    "card cyclegan": 0,
    "cite cyclegan": 0,
    "fti": 2,
    "list --hlep": 2,
    "fit --config zoo/cyclgan.yaml": 2,
    "fit --config configs/ddp.yaml": 2,
}
"""Words behind `lightning`, and the exit code."""


def measure(words: str, code: int, repeat: int) -> list[float]:
    """Seconds of each repetition, after one that is not counted."""
    lightning = Path(sys.executable).with_name("lightning")
    seconds = []
    for _ in range(repeat + 1):
        start = time.perf_counter()
        answer = subprocess.run([lightning, *shlex.split(words)], capture_output=True, text=True, check=False)
        seconds.append(time.perf_counter() - start)
        if answer.returncode != code:
            sys.exit(f"lightning {words} ended with {answer.returncode}, and not with {code}: {answer.stderr}")
    return seconds[1:]


def main() -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(description="Time the front door of the lightning command.")
    parser.add_argument("--repeat", type=int, default=9, help="counted repetitions of each command")
    parser.add_argument("--limit", type=float, help="exit with 1 if a median takes longer, in seconds")
    options = parser.parse_args()
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {options.repeat} repetitions")
    print(f"{'command':<42} {'median':>8} {'slowest':>8}")
    slow = False
    for words, code in ANSWERS.items():
        seconds = measure(words, code, options.repeat)
        median = statistics.median(seconds)
        slow |= options.limit is not None and median > options.limit
        print(f"lightning {words:<32} {median:>7.3f}s {max(seconds):>7.3f}s")
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
