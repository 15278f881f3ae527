"""README.md as a script: its examples and their outputs. ``python tests/readme.py`` writes the outputs anew."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
_BLOCK = re.compile(r"^```(python|text|console)\n(.*?)^```\n", re.M | re.S)
_TABLE = re.compile(r"(<!-- output of the first command -->\n).*?(?=\n`posteriors.csv`)", re.S)


def run(command: str) -> str:
    """Standard output of a ``ddx`` or ``python3 -m ddx`` command line."""
    words = command.removeprefix("python3 -m ").split()
    done = subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return "\n".join(line.rstrip() for line in done.stdout.splitlines())


def command(number: int) -> str:
    """The first or second command, word for word."""
    found = re.search(rf"<!-- command {number} -->\n```bash\n(.*?)\n```", README.read_text(encoding="utf-8"), re.S)
    assert found is not None
    return found.group(1)


def rendered(text: str, output_folder: Path) -> str:
    """The README with every output replaced by what its example prints today."""
    namespace: dict[str, object] = {}
    printed = ""

    def replace(match: re.Match[str]) -> str:
        nonlocal printed
        kind, body = match.groups()
        if kind == "python":
            stream = io.StringIO()
            with contextlib.redirect_stdout(stream):
                exec(compile(body, "README.md", "exec"), namespace)
            printed = stream.getvalue()
        elif kind == "text":
            body = "\n".join(line.rstrip() for line in printed.splitlines()) + "\n"
        elif "-o posteriors.csv" not in body:
            lines = [line[2:] for line in body.splitlines() if line.startswith("$ ")]
            body = "".join(f"$ {line}\n{run(line)}\n" for line in lines)
        return f"```{kind}\n{body}```\n"

    text = _BLOCK.sub(replace, text)
    first = command(1).split("&&")[1].strip().replace("posteriors.csv", str(output_folder / "posteriors.csv"))
    table = f"\n```text\n{run(first).replace(str(output_folder) + '/', '')}\n```\n"
    return _TABLE.sub(lambda match: match.group(1) + table, text)


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        README.write_text(rendered(README.read_text(encoding="utf-8"), Path(folder)), encoding="utf-8")
