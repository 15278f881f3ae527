"""Standard output and standard error, whatever the caller made of them."""

from __future__ import annotations

import io
import os
import sys


def prepare() -> None:
    """Make both usable: what would go to a closed standard error goes nowhere, and no character stops a program."""
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def drop_output() -> None:
    """What is still buffered for standard output must not complain again when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def printable(message: str) -> str:
    """Names and cells are quoted in messages; what would steer a terminal is shown by its code."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in message)
