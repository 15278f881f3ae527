"""Run the experiments, one after the other: every folder beside this file that has a run.py.

python experiments/run.py                      # at full size, each into its own folder; some minutes each
python experiments/run.py --small              # tiny, into a temporary folder: do they run?
python experiments/run.py --small leak         # some of them
python experiments/run.py --cases CASES.csv    # published cases (with a column final_diagnosis) where they are needed
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
# Options that make one small, where {out} stands for a folder; benchmarks write nothing when they are quick.
SMALL = {
    "benchmarks": ("--quick",),
    "credible_intervals": ("--cases", "10", "--draws", "20", "--out", "{out}"),
    "dominant_parameters": ("--cases", "1", "--cause", "stroke", "--setting", "emergency", "--out", "{out}"),
    "forms": ("--cause", "stroke", "--out", "{out}"),
    "leak": ("--cases", "25", "--setting", "emergency", "--out", "{out}"),
    "left_out_studies": ("--out", "{out}"),
    "new_study": ("--cases", "4", "--draws", "20", "--outcomes", "2", "--out", "{out}"),
    "parameter_noise": ("--cases", "12", "--replicates", "2", "--out", "{out}"),
    "prevalence_shift": ("--cases", "20", "--out", "{out}"),
    "published_cases": ("--setting", "balanced", "--output", "{out}"),
    "textbook_cases": ("--cause", "stroke", "--out", "{out}"),
    "quickscore": ("--networks", "2", "--cases", "1", "--most", "6", "--out", "{out}"),
    "reported": ("--cause", "stroke", "--out", "{out}"),
    "selection": ("--cause", "stroke", "--patients", "20", "--people", "2000", "--out", "{out}"),
    "setting_shift": ("--cases", "10", "--out", "{out}"),
    "syndromes": ("-n", "120", "--setting", "neurology_clinic", "--output", "{out}"),
}
# How published cases are handed over.
CASES = {
    "forms": ("--cases", "{cases}"),
    "published_cases": ("{cases}",),
    "reported": ("--cases", "{cases}"),
    "selection": ("--cases", "{cases}"),
    "syndromes": ("--cases", "{cases}"),
}
NEEDS_CASES = ("published_cases",)


def main() -> int:
    known = sorted(path.parent.name for path in HERE.glob("*/run.py"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all; known: {', '.join(known)}")
    parser.add_argument("--small", action="store_true", help="tiny sizes, nothing is written beside the experiments")
    parser.add_argument("--cases", help="CSV file of published cases")
    parser.add_argument("--out", type=Path, help="with --small: folder to keep the output in, a folder for each")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in known]
    if unknown:
        parser.error(f"unknown experiment {unknown[0]!r}; known: {', '.join(known)}")
    if arguments.out and not arguments.small:
        parser.error("--out is for --small; at full size every experiment writes into its own folder")
    with tempfile.TemporaryDirectory() as temporary:
        failed = run(arguments.names or known, arguments.small, arguments.cases, arguments.out or Path(temporary))
    if failed:
        print(f"run.py: failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def run(names: Sequence[str], small: bool, cases: str | None, out: Path) -> list[str]:
    """Names of those that failed; what is left out is said."""
    failed = []
    for name in names:
        if name in NEEDS_CASES and not cases:
            print(f"{name}: left out, it needs --cases", flush=True)
            continue
        if small and name not in SMALL:
            print(f"{name}: left out, no small size is known", flush=True)
            continue
        options = (*(CASES.get(name, ()) if cases else ()), *(SMALL[name] if small else ()))
        (out / name).mkdir(parents=True, exist_ok=True)
        filled = [option.format(out=out / name, cases=cases) for option in options]
        began = time.perf_counter()
        done = subprocess.run([sys.executable, HERE / name / "run.py", *filled], capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - began
        if done.returncode:
            failed.append(name)
            print(done.stderr, file=sys.stderr)
        print(f"{name}: {'failed' if done.returncode else 'done'}, {seconds:.0f} s", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
