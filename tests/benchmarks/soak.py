"""Does a long training keep to its memory? Trains a small room through the real command and watches its processes (Linux).

    python tests/benchmarks/soak.py [--minutes 60] [--every 60] [--csv runs/benchmarks/soak.csv]

Validation, the judge, checkpoints, sample grids and a loader process come along often. Each row of the table is the sum over the
command's process and its children: resident memory, open file handles, threads, resident shared memory. At the end it is said
whether each stayed flat; the exit code is 1 if one did not, or if the command failed.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

CSV = Path(__file__).parents[2] / "runs" / "benchmarks" / "soak.csv"
ALLOWED_GROWTH = {"memory_mib": (0.005, 0.0), "handles": (0.0, 2.0), "threads": (0.0, 0.5), "shared_mib": (0.0, 1.0)}
"""Of a column: the share of its level, and the amount, by which it may grow and be called flat."""
FEWEST_SAMPLES = 10
SMALL_ROOM = {
    "--config": ["zoo/cyclegan.yaml", "configs/demo/cyclegan.yaml"],
    "--model.generator_channels": ["4"],
    "--model.residual_blocks": ["1"],
    "--model.discriminator_channels": ["4"],
    "--data.size": ["32"],
    "--data.workers": ["1"],
    "--trainer.max_steps": ["-1"],
    "--trainer.val_check_interval": ["200"],
    "--checkpoints.every": ["200"],
    "--samples.every": ["200"],
    "--metrics.every": ["10"],
    "--judge.enabled": ["true"],
}


def family(process: int) -> Iterator[int]:
    """A process, its children, theirs and so on; those that end meanwhile are left out."""
    yield process
    for children in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            born = children.read_text().split()
        except OSError:
            continue
        for child in born:
            yield from family(int(child))


def resources(process: int) -> dict[str, float]:
    """What a process holds: memory and shared memory in MiB, numbers of file handles and threads."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        handles = sum(1 for _ in Path(f"/proc/{process}/fd").iterdir())
    except OSError:  # it has ended
        return {}
    status = dict(line.split(":", 1) for line in lines)
    if "VmRSS" not in status:  # it has ended, and nobody has asked how
        return {}
    mib = {key: int(status[key].split()[0]) / 1024 for key in ("VmRSS", "RssShmem")}
    return {
        "memory_mib": mib["VmRSS"],
        "handles": handles,
        "threads": int(status["Threads"]),
        "shared_mib": mib["RssShmem"],
    }


def sample(process: int) -> dict[str, float]:
    """The sum over a process and its children; empty when it has ended."""
    held = [found for member in family(process) if (found := resources(member))]
    return {key: sum(one[key] for one in held) for key in ALLOWED_GROWTH} if held else {}


def growth(values: Sequence[float]) -> tuple[float, float]:
    """Level and growth of a column: medians of the first and the last third of what comes after the warm-up, a fifth."""
    settled = values[len(values) // 5 :]
    third = len(settled) // 3
    level = median(settled[:third])
    return level, median(settled[-third:]) - level


def is_flat(column: str, values: Sequence[float]) -> bool:
    """Whether a column grew by no more than it may."""
    level, grown = growth(values)
    share, amount = ALLOWED_GROWTH[column]
    return grown <= share * level + amount


def watch(process: subprocess.Popen[bytes], every: float, path: Path) -> list[dict[str, float]]:
    """Sample a process until it ends; each row is in the file as soon as it is known."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, float]] = []
    begin = time.monotonic()
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["minute", *ALLOWED_GROWTH])
        writer.writeheader()
        while True:
            try:
                process.wait(every)
                return rows
            except subprocess.TimeoutExpired:
                if found := sample(process.pid):
                    rows.append({"minute": (time.monotonic() - begin) / 60, **found})
                    writer.writerow({key: f"{value:.6g}" for key, value in rows[-1].items()})
                    file.flush()


def days_to_seconds(minutes: float) -> str:
    """Minutes as Lightning wants a time: days, hours, minutes and seconds, two digits each."""
    hours, seconds = divmod(round(60 * minutes), 3600)
    return f"{hours // 24:02}:{hours % 24:02}:{seconds // 60:02}:{seconds % 60:02}"


def main() -> int:
    """Train, watch and judge; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60, help="of training (default: 60)")
    parser.add_argument("--every", type=float, default=60, help="seconds between two rows (default: 60)")
    parser.add_argument("--csv", type=Path, default=CSV, help="where the rows are written")
    options = parser.parse_args()
    if options.minutes * 60 < (FEWEST_SAMPLES + 1) * options.every:
        parser.error(f"at least {FEWEST_SAMPLES} rows are needed to judge: type --every {options.minutes * 4:.0f}")
    with tempfile.TemporaryDirectory() as scratch, Path(scratch, "log").open("w+b") as log:
        words = [word for option, values in SMALL_ROOM.items() for value in values for word in (option, value)]
        words += ["--trainer.max_time", days_to_seconds(options.minutes), "--run.root", scratch]
        command = [str(Path(sys.executable).with_name("lightning")), "fit", *words]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            rows = watch(process, options.every, options.csv)
        finally:
            process.terminate()
            process.wait()
        iterations = max((int(file.stem.split("_")[1]) for file in Path(scratch).rglob("iteration_*.ckpt")), default=0)
        if process.returncode or len(rows) < FEWEST_SAMPLES:
            log.seek(0)
            print(log.read().decode(errors="replace"), file=sys.stderr)
            print(f"The command ended with {process.returncode} after {len(rows)} rows: no verdict.", file=sys.stderr)
            return 1
    print(f"{iterations} iterations in {options.minutes:g} minutes, {len(rows)} rows in {options.csv}")
    print(f"{'':<12}{'level':>10}{'growth':>10}{'highest':>10}")
    flat = True
    for column in ALLOWED_GROWTH:
        values = [row[column] for row in rows]
        level, grown = growth(values)
        verdict = "flat" if is_flat(column, values) else "GROWS"
        flat &= verdict == "flat"
        print(f"{column:<12}{level:>10.1f}{grown:>+10.1f}{max(values):>10.1f}  {verdict}")
    return 0 if flat else 1


if __name__ == "__main__":
    sys.exit(main())
