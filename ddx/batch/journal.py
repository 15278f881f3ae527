"""How far a run has come: what a killed run is taken up from."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ddx.batch.formats import STREAM
from ddx.batch.targets import part_of, sync_folder
from ddx.errors import UsageError


class Journal:
    """How far a run has come, beside the target; only for files, as standard input and output cannot be taken up again."""

    def __init__(self, source: str, target: str, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.path = part_of(target).with_suffix(".journal") if STREAM not in (source, target) else None
        self.target = target

    def read(self) -> dict[str, Any] | None:
        """Where the earlier run was; None when it had not come to a checkpoint.

        Raises
        ------
        UsageError
            There is nothing to resume, or the earlier run was another one.
        """
        assert self.path is not None
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            if not isinstance(content, dict) or not {"settings", "point"} <= set(content):
                return None
        except FileNotFoundError:
            if part_of(self.target).exists():
                return None
            raise UsageError(f"{self.target}: there is no unfinished run to resume; leave --resume out") from None
        except (ValueError, TypeError):
            return None
        except OSError as error:
            raise UsageError(f"{self.target}: the unfinished run cannot be read: {error.strerror}") from None
        earlier = content["settings"]
        differs = [name for name in self.settings if earlier.get(name) != self.settings[name]]
        if differs:
            values = "; ".join(f"{name} was {earlier.get(name)}, is {self.settings[name]}" for name in differs)
            raise UsageError(f"{self.target}: the unfinished run was another one ({values}); start again without --resume")
        point: dict[str, Any] = content["point"]
        return point

    @contextlib.contextmanager
    def locked(self, *targets: str) -> Iterator[None]:
        """One run a target."""
        with contextlib.ExitStack() as stack:
            for target in targets:
                if target != STREAM:
                    stack.enter_context(_locked(target))
            yield

    def write(self, point: dict[str, Any]) -> None:
        """Replace the journal in one step."""
        assert self.path is not None
        new = self.path.with_suffix(".new")
        try:
            with open(new, "w", encoding="utf-8") as file:
                json.dump({"settings": self.settings, "point": point}, file)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self.path)
            sync_folder(self.path.parent)
        except OSError as error:
            new.unlink(missing_ok=True)
            raise UsageError(f"{self.target}: cannot be written: {error.strerror}") from None

    def exists(self) -> bool:
        """Whether there is something to resume from."""
        return self.path is not None and self.path.exists()

    def remove(self) -> None:
        """The run is complete."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(target: str) -> Iterator[None]:
    lock = part_of(target).with_suffix(".lock")
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise UsageError(f"{target}: cannot be written: {error.strerror}") from None
    try:
        if not _lock(handle, lock):
            raise UsageError(f"{target}: another run is writing it; wait for it, or name another output")
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
    finally:
        os.close(handle)


def _lock(handle: int, lock: Path) -> bool:
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A run that has just ended may have taken the file away that was opened here: then it locks nothing.
        return os.path.samestat(os.fstat(handle), lock.stat())
    except OSError:
        return False
