"""Which kernel works. Both give the same bits, so this is about time alone."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

Kernel = Literal["auto", "numpy", "compiled"]

_MODULE, _SEARCH = "ddx.inference.compiled", "ddx.inference.kernel_plan"
# The function whose machine code on disk says that of the module is there.
_FUNCTIONS = {_MODULE: "kernel_cases.run_groups", _SEARCH: "layout.search"}
# Seconds that loading the compiled kernel takes, once its machine code is on disk, and at first, when it must be made. The same
# for the search for an order alone, in which Python spends nearly all of the time of a plan.
LOADING, COMPILING = 1.0, 60.0
LOADING_SEARCH, COMPILING_SEARCH = 0.4, 2.0
# Seconds that NumPy needs for a plan and its steps, for a double of state in a large state, and in many small ones.
PLAN, DOUBLE, SMALL_DOUBLE = 0.01, 3e-7, 1.5e-7
# Seconds that Python needs for a move of the search for an order, for every variable, cause and link that it goes over.
MOVE = 3e-7


class _Meter:
    """Seconds that something has taken in this process."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time inside."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - start


# Of plans in Python and the NumPy kernel together, and of the plans alone.
meter, planning = _Meter(), _Meter()


def load_compiled(kernel: Kernel, expected: float = 0.0) -> Any:
    """The module with the compiled kernel, or None where NumPy shall work.

    "auto" rents before it buys: NumPy works until it has worked, or is expected to have worked after ``expected`` more seconds,
    for as long as loading or compiling would take. That costs at most twice what the better choice costs, and a single small
    call never waits for a compiler.

    Raises
    ------
    ValueError
        Unknown kernel.
    ImportError
        kernel="compiled" without numba.
    """
    if kernel not in get_args(Kernel):
        raise ValueError(f"kernel: got {kernel!r}, allowed: {', '.join(get_args(Kernel))}")
    if kernel == "numpy" or (kernel == "auto" and not _worth(_MODULE, meter.seconds + expected, LOADING, COMPILING)):
        return None
    try:
        # Loaded here: it takes a second, and numba may be missing.
        return import_module(_MODULE)
    except ImportError as error:
        if kernel == "auto":
            return None
        raise ImportError('the compiled kernel needs numba: pip install numba, or use kernel="numpy"') from error


def load_search(kernel: Kernel, expected: float = 0.0) -> Any:
    """The module that plans with a compiled search, for NumPy, or None where Python shall plan; rented and bought alike."""
    if kernel != "auto" or not _worth(_SEARCH, planning.seconds + expected, LOADING_SEARCH, COMPILING_SEARCH):
        return None
    try:
        return import_module(_SEARCH)
    except ImportError:
        return None


def _worth(module: str, worked: float, loading: float, compiling: float) -> bool:
    """Whether a module is there already, or pays after so many seconds of work without it."""
    return module in sys.modules or worked > compiling or (worked > loading and _on_disk(_FUNCTIONS[module]))


def _on_disk(function: str) -> bool:
    """Whether numba has left the machine code of a function in one of the places where it looks for it."""
    here = Path(__file__).parent
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    places = [Path(chosen)] if chosen else [here / "__pycache__", Path.home() / ".cache" / "numba"]
    return any(True for place in places for _ in place.rglob(f"{function}-*.nbi"))
