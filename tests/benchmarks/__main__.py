"""All benchmarks but the soak, one after the other, and one summary: `python tests/benchmarks`.

Each also writes a CSV file, into `runs/benchmarks`.
"""

import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

BENCHMARKS = {
    "startup": "how long a person waits for the front door, and for a training's first iteration",
    "scenes": "how fast scenes are rendered",
    "loader": "how fast pictures are loaded, from made JPEGs",
    "step": "what a training iteration costs",
    "ranks": "what processes that train together tell one another",
}


def main() -> int:
    """Run and print; returns the exit code."""
    folder, reports, failed = Path(__file__).parent, [], []
    for name, question in BENCHMARKS.items():
        print(f"{name} ...", end=" ", flush=True, file=sys.stderr)
        # The loader's figures are those of one core.
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        load, start = os.getloadavg()[0], time.monotonic()
        answer = subprocess.run(
            [sys.executable, folder / f"{name}.py"], env=environment, stdout=subprocess.PIPE, text=True, check=False
        )
        seconds = time.monotonic() - start
        print(f"{seconds:.0f} s", file=sys.stderr)
        if answer.returncode:
            failed.append(name)
        ended = f", FAILED with exit code {answer.returncode}" if answer.returncode else ""
        reports.append(f"{name}: {question} ({seconds:.0f} s, load {load:.1f} at its start{ended})\n\n{answer.stdout}")
    when = datetime.now(UTC).isoformat(timespec="minutes")
    print(f"Benchmarks of {when}, Python {platform.python_version()}, {os.cpu_count()} cores\n")
    print("\n".join(reports))
    if failed:
        print(f"Failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
