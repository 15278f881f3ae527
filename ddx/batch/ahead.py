"""Chunks read by a thread of their own while others are solved."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator

from ddx.batch.lines import Chunk
from ddx.batch.scoring import Read
from ddx.batch.sources import Source

_READY = 2  # chunks that are read before they are solved


@contextlib.contextmanager
def read_ahead(
    reader: Source, read: Callable[[Iterator[Chunk]], Iterator[tuple[Read, str]]]
) -> Iterator[Iterator[tuple[Read, str]]]:
    """Chunks read by a thread of their own while others are solved."""
    ready: queue.Queue[tuple[Read, str] | BaseException | None] = queue.Queue(_READY)
    stopped = threading.Event()

    def put(item: tuple[Read, str] | BaseException | None) -> bool:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(item, timeout=0.1)
                return True
        return False

    def work() -> None:
        try:
            for item in read(reader.chunks()):
                if not put(item):
                    return
            put(None)
        except BaseException as error:
            put(error)

    def items() -> Iterator[tuple[Read, str]]:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    thread = threading.Thread(target=work, name="ddx reader", daemon=True)
    thread.start()
    try:
        yield items()
    finally:
        stopped.set()
        # Who waits for a pipe may wait for ever.
        thread.join(None if reader.regular else 1.0)
