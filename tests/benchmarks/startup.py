"""How long the front door of `lightning` takes to answer, and a training to its first iteration: new processes, as a person waits.

    python tests/benchmarks/startup.py [--repeat 9] [--limit 0.5] [--fit_repeat 3] [--fit_limit 15]

Prints the median and the slowest of the repetitions in seconds; with a limit it exits with 1 if a median is above it. A training's
time ends with the first row of its metrics.csv; beside the wall clock stands what the process worked until then, which others on the
machine disturb less. Bytecode is compiled by a first training that is not counted.
"""

import argparse
import csv
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
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

DEMOS = ("gpunit", "cyclegan", "alae")
CSV = Path(__file__).parents[2] / "runs" / "benchmarks" / "startup.csv"


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


def first_iteration(demo: str) -> tuple[float, float]:
    """Train a demo for one iteration.

    Args:
        demo: name of the recipe and of its demo overlay.

    Returns:
        Seconds from typing the command to the end of the first iteration: waited, and worked by the process and those it started.
    """
    lightning = Path(sys.executable).with_name("lightning")
    with tempfile.TemporaryDirectory() as root:
        words = ["fit", "--config", f"zoo/{demo}.yaml", "--config", f"configs/demo/{demo}.yaml", "--run.root", root]
        start = time.perf_counter()
        with Path(root, "said.txt").open("wb") as said:
            process = subprocess.Popen([lightning, *words, "--metrics.every", "1"], stdout=said, stderr=said)
        while not any(len(path.read_text().splitlines()) > 1 for path in Path(root).glob("*/*/metrics.csv")):
            if process.poll() is not None:
                sys.exit(
                    f"lightning {shlex.join(words)} ended before its first iteration:\n{Path(root, 'said.txt').read_text()}"
                )
            time.sleep(0.02)
        waited = time.perf_counter() - start
        process.kill()
        _, _, usage = os.wait4(process.pid, 0)
        process.returncode = -9
    return waited, usage.ru_utime + usage.ru_stime


def main() -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(description="Time the front door of the lightning command.")
    parser.add_argument("--repeat", type=int, default=9, help="counted repetitions of each command")
    parser.add_argument("--limit", type=float, help="exit with 1 if a median takes longer, in seconds")
    parser.add_argument("--fit_repeat", type=int, default=3, help="counted repetitions of each training")
    parser.add_argument("--fit_limit", type=float, help="exit with 1 if a training's median takes longer, in seconds")
    parser.add_argument("--csv", type=Path, default=CSV, help="where the figures are written")
    options = parser.parse_args()
    rows: list[tuple[str, float, float]] = []
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {options.repeat} repetitions")
    print(f"{'command':<42} {'median':>8} {'slowest':>8}")
    slow = False
    for words, code in ANSWERS.items():
        seconds = measure(words, code, options.repeat)
        median = statistics.median(seconds)
        slow |= options.limit is not None and median > options.limit
        print(f"lightning {words:<32} {median:>7.3f}s {max(seconds):>7.3f}s")
        rows.append((f"lightning {words}", median, max(seconds)))
    print(f"\n{'to the first iteration of the demo':<42} {'waited':>8} {'slowest':>8} {'worked':>8}")
    for demo in DEMOS if options.fit_repeat else ():
        waited, worked = zip(*[first_iteration(demo) for _ in range(options.fit_repeat + 1)][1:], strict=True)
        median = statistics.median(waited)
        slow |= options.fit_limit is not None and median > options.fit_limit
        print(f"{demo:<42} {median:>7.2f}s {max(waited):>7.2f}s {statistics.median(worked):>7.2f}s")
        rows += [(f"first iteration of {demo}", median, max(waited))]
        rows += [(f"first iteration of {demo}, worked", statistics.median(worked), max(worked))]
    options.csv.parent.mkdir(parents=True, exist_ok=True)
    with options.csv.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["what", "median_s", "slowest_s", "python", "cores"])
        writer.writerows([(*row, platform.python_version(), os.cpu_count()) for row in rows])
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
