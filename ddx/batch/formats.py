"""What names and first bytes of files say of their formats."""

from __future__ import annotations

from pathlib import Path

from ddx.errors import UsageError

STREAM = "-"
FORMATS = {".csv": "csv", ".txt": "csv", "": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
# First bytes of what is no text, what has them, and what to do.
_KINDS = (
    (b"\x1f\x8b", "gzip", "let its name end in .gz, or unpack it"),
    (b"\x28\xb5\x2f\xfd", "zstd", "let its name end in .zst, or unpack it"),
    (b"BZh", "bzip2", "unpack it"),
    (b"\xfd7zXZ", "xz", "unpack it"),
    (b"PK\x03\x04", "a zip archive or a workbook", "unpack it, or save it as CSV"),
    (b"PAR1", "parquet", "let its name end in .parquet, or give the input format parquet"),
)


def shown(name: str, stream: str = "input") -> str:
    """How a message names a source or target."""
    return f"standard {stream}" if name == STREAM else name


def format_of(name: str, kind: str | None = None) -> tuple[str, str | None] | None:
    """Format and compression that a file name says (``kind`` where it says no format); None for one that is not known."""
    path = Path(name)
    compression = COMPRESSIONS.get(path.suffix.lower())
    stem = path.with_suffix("") if compression else path
    suffix = stem.suffix.lower()
    kind = kind if kind and not suffix else FORMATS.get(suffix, kind)
    return None if kind is None or (kind == "parquet" and compression) else (kind, compression)


def check_begin(begin: bytes, name: str, kind: str) -> None:
    """Refuse a file of text whose first bytes say that it is none."""
    for magic, what, advice in _KINDS:
        if begin.startswith(magic):
            raise UsageError(f"{shown(name)}: is {what} by its first bytes, expected {kind}; {advice}")
