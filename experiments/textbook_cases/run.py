"""Patients as textbooks describe them: where the cause that they were written for ranks.

    python experiments/textbook_cases/run.py

The measures and tables are those of experiments/published_cases, whose command does the work.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent
COMMAND = HERE.parent / "published_cases" / "run.py"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kb", default="limb", help="shipped knowledge base, or the folder of one")
    parser.add_argument("--cause", action="append", help="only the patients of this cause; repeat for more")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of what is written; default: that of this file")
    arguments = parser.parse_args()
    cases = pd.read_csv(HERE / "cases.csv", dtype=str, keep_default_na=False)
    unknown = set(arguments.cause or ()) - set(cases["final_diagnosis"])
    if unknown:
        parser.error(f"no patients of {sorted(unknown)[0]!r}")
    with tempfile.TemporaryDirectory() as folder:
        chosen = Path(folder) / "cases.csv"
        cases[cases["final_diagnosis"].isin(arguments.cause or cases["final_diagnosis"])].to_csv(chosen, index=False)
        options = ["--kb", arguments.kb, "--setting", "balanced", "--explanations", HERE / "explanations.csv"]
        return subprocess.run([sys.executable, COMMAND, chosen, *options, "--output", arguments.out], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
