"""What one training iteration of each room costs: time, operations, memory; beside the official code's. And what a translation takes.

    python tests/benchmarks/step.py [ROOM ...] [--threads 1 2] [--iterations 20] [--csv runs/benchmarks/step.csv] [--quick]

Each measurement is a process of its own, in which a real Trainer runs the room's own training step on the CPU in float32. Times are
medians after a warm-up. "plain" is the same iteration in plain PyTorch, timed in turn with the room's: the difference is what the
house costs. The ratios are of CPU time on one thread, which others on the machine disturb least. The official seconds are scaled
to this machine by five matrix products, timed before, between and after the room's iterations; see `rooms` for how much that says.
"goal" is what the ratio should be at most: 0.8 where the official code is known to compute things twice, else 1. Rooms without
official figures are measured as they are.

--quick takes a look on a busy machine: three iterations after one, one round, nothing plain, one thread.
"""

import argparse
import csv
import io
import json
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from driving import Counts, Flops, Stamps, Stopwatch, calibrate, drive
from rooms import OFFICIAL_CALIBRATION, ROOMS

from zoo.core.files import write_atomically

WARM_UP = 3
ROUNDS = 2
TRANSLATIONS = 5
GOAL, GOAL_OF_REDUNDANT = 1.0, 0.8
BUSY = 1.2  # of load: the benchmark before this one leaves one behind
CSV = Path(__file__).parents[2] / "runs" / "benchmarks" / "step.csv"


def peak_memory() -> float:
    """The most memory that this process has had, in MiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def measure(name: str, iterations: int, quick: bool) -> dict[str, Any]:
    """Measure a room in this very process, with as many threads as it has been given."""
    measured = ROOMS[name]
    rounds, warm_up = (1, 1) if quick else (ROUNDS, WARM_UP)
    batch, at_start, peak = measured.batch(), peak_memory(), 0.0
    room, between, plain, matrices, translation = (Stopwatch() for _ in range(5))
    calibrate(matrices)
    for _ in range(rounds):
        model = measured.make()
        drive(model, batch, warm_up + -(-iterations // rounds), Stamps(room, between, warm_up))
        peak = peak or peak_memory()
        calibrate(matrices)
        if measured.plain is not None and not quick:
            time_repeated(measured.plain(batch), -(-iterations // rounds), plain, warm_up)
    time_repeated(lambda: measured.infer(model, batch), TRANSLATIONS, translation, 1)
    counts, plain_flops = Counts(iteration=1), Flops()
    drive(measured.make(), batch, 3, counts)
    if measured.plain is not None:
        iteration = measured.plain(batch)
        with plain_flops:
            iteration()
    return {
        "step_ms": 1000 * median(room.wall),
        "trainer_ms": 1000 * median(between.wall),
        "plain_ms": 1000 * median(plain.wall) if plain.wall else None,
        "translate_ms": 1000 * median(translation.wall),
        "step_cpu_ms": 1000 * median(room.cpu),
        "plain_cpu_ms": 1000 * median(plain.cpu) if plain.cpu else None,
        "translate_cpu_ms": 1000 * median(translation.cpu),
        "calibration": median(matrices.cpu),
        "peak_mib": peak,
        "start_mib": at_start,
        "gflop": counts.flops / 1e9,
        "plain_gflop": plain_flops.total / 1e9 or None,
        "shares": ", ".join(
            f"{network or 'elsewhere'} {flops / counts.flops:.0%}" for network, flops in counts.shares.most_common()
        ),
        "forwards": ", ".join(f"{network} {count}" for network, count in counts.forwards.items()),
        "host_reads": len(counts.host_reads),
    }


def time_repeated(iteration: Callable[[], object], iterations: int, stopwatch: Stopwatch, warm_up: int) -> None:
    """Time something some times after the warm-up."""
    for _ in range(warm_up):
        iteration()
    for _ in range(iterations):
        stopwatch.start()
        iteration()
        stopwatch.stop()


def measure_apart(name: str, iterations: int, threads: int, quick: bool) -> dict[str, Any]:
    """Measure a room in a new process with a number of threads."""
    command = [sys.executable, __file__, name, "--iterations", str(iterations), "--here", *(["--quick"] * quick)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    answer = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(answer.stdout)


def row_of(name: str, by_threads: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """The figures of a room: times for each number of threads, what compares as it was with one."""
    measured, one = ROOMS[name], by_threads[1]
    row: dict[str, Any] = {"room": name}
    for threads, figures in by_threads.items():
        row |= {f"{key}_{threads}": figures[key] for key in ("step_ms", "plain_ms", "trainer_ms", "translate_ms")}
    row |= {key: one[key] for key in ("step_cpu_ms", "plain_cpu_ms", "translate_cpu_ms", "calibration")}
    row["to_plain"] = one["plain_cpu_ms"] and one["step_cpu_ms"] / one["plain_cpu_ms"]
    row |= {"official_ms_scaled": None, "to_official": None, "goal": None}
    if measured.official_seconds is not None:
        official_ms = 1000 * measured.official_seconds * one["calibration"] / OFFICIAL_CALIBRATION
        row |= {"official_ms_scaled": official_ms, "to_official": one["step_cpu_ms"] / official_ms}
        row["goal"] = GOAL_OF_REDUNDANT if measured.redundant else GOAL
    row |= {"gflop": one["gflop"], "plain_gflop": one["plain_gflop"], "official_gflop": measured.official_gflop}
    row |= {key: one[key] for key in ("host_reads", "peak_mib", "start_mib", "forwards", "shares")}
    return row | {"configuration": measured.configuration}


def machine() -> dict[str, str]:
    """Where and when this was measured."""
    cpu_info = Path("/proc/cpuinfo")
    lines = cpu_info.read_text(encoding="utf-8").splitlines() if cpu_info.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores",
        "load": f"{os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "torchvision", "lightning", "numpy")},
    }


def table(rows: list[dict[str, Any]], threads: list[int]) -> str:
    """The rows for a person."""
    columns = {"room": "room"}
    for n in threads:
        columns |= {f"step_ms_{n}": f"ms ({n} thr)", f"plain_ms_{n}": "plain"}
    columns |= {"step_cpu_ms": "CPU ms", "to_plain": "/ plain", "to_official": "/ official", "goal": "goal"}
    columns |= {"gflop": "GFLOP", "plain_gflop": "plain", "official_gflop": "official", "host_reads": "reads"}
    columns |= {"peak_mib": "peak MiB", "translate_cpu_ms": "translate"}
    decimals = {"to_plain": 2, "to_official": 2, "goal": 1, "gflop": 2, "plain_gflop": 2, "official_gflop": 2}

    def cell(key: str, value: Any) -> str:
        return "-" if value is None else value if isinstance(value, str) else f"{value:.{decimals.get(key, 0)}f}"

    lines = [list(columns.values()), *([cell(key, row[key]) for key in columns] for row in rows)]
    drawn = [f"{first:<17}" + "".join(f"{text:>11}" for text in rest) for first, *rest in lines]
    for row in rows:
        drawn.append(f"{row['room']}: {row['configuration']}; forwards: {row['forwards'] or 'none by __call__'};")
        drawn.append(f"  operations by network: {row['shares']};")
        said = [
            f"the Trainer adds {row['trainer_ms_1']:.1f} ms; {row['start_mib']:.0f} MiB of the peak are there before the first iteration; "
            f"five products took {row['calibration']:.3f} s of CPU time here and {OFFICIAL_CALIBRATION} s there"
        ]
        if row["official_ms_scaled"] is not None:
            said.append(f", which makes {row['official_ms_scaled']:.0f} ms of the official code's")
            if row["plain_cpu_ms"] is not None:
                said.append(
                    f". The plain iteration stands at {row['plain_cpu_ms'] / row['official_ms_scaled']:.2f} of that: so much of the "
                    "ratio is the machine's, not the room's"
                )
        drawn.append("  " + "".join(said))
    return "\n".join(drawn)


def write_csv(path: Path, rows: list[dict[str, Any]], facts: dict[str, str]) -> None:
    """Write the rows, each with the facts about the machine."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [*facts, *rows[0]])
    writer.writeheader()
    for row in rows:
        rounded = {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()}
        writer.writerow({**facts, **rounded})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.getvalue().encode())


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rooms", nargs="*", metavar="ROOM", help=f"of {', '.join(ROOMS)} (default: all)")
    parser.add_argument(
        "--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads beside 1 (default: 1 2)"
    )
    parser.add_argument("--iterations", type=int, default=20, help="that are timed after the warm-up (default: 20)")
    parser.add_argument("--csv", type=Path, default=CSV, help="where the table is written")
    parser.add_argument("--quick", action="store_true", help="a look, on a busy machine")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.rooms) - set(ROOMS):
        parser.error(f"not measured: {', '.join(sorted(unknown))}; choose of {', '.join(ROOMS)}")
    names = options.rooms or list(ROOMS)
    if options.here:
        print(json.dumps(measure(names[0], options.iterations, options.quick)))
        return
    iterations, threads = (3, [1]) if options.quick else (options.iterations, sorted({1, *options.threads}))
    facts = machine()
    rows = [row_of(name, {n: measure_apart(name, iterations, n, options.quick) for n in threads}) for name in names]
    print("; ".join(f"{key} {value}" for key, value in facts.items()))
    if float(facts["load"]) > BUSY:
        print(
            "The machine was busy: go by CPU time and ratios. Wall times of several threads say nothing, for they wait."
        )
    print(table(rows, threads))
    write_csv(options.csv, rows, facts)
    print(f"written to {options.csv}")


if __name__ == "__main__":
    main()
