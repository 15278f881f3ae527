"""Files that have to be written in one piece (Parquet, compressed text), made from a growing part while others work on it."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

ROW_GROUP = 1 << 16
_BLOCK = 1 << 20  # bytes that are compressed at a time, however they come: the same text makes the same bytes


class _Stopped(Exception):
    """Nobody wants the file any more."""


class Whole:
    """The file ``ready``, written by a thread of its own as far as the part goes."""

    def __init__(self, part: Path, ready: Path, schema: pa.Schema | None, compression: str | None) -> None:
        self.ready = ready
        self._schema, self._compression = schema, compression
        self._changed = threading.Condition()
        self._size, self._complete, self._stopped = 0, False, False
        self._error: BaseException | None = None
        self._part = open(part, "rb")  # noqa: SIM115
        self._at = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def grow(self, size: int, *, complete: bool = False) -> None:
        """The part has so many bytes now, and if ``complete`` gets no more; raises what went wrong so far."""
        with self._changed:
            self._size, self._complete = size, complete
            self._changed.notify()
        if complete:
            self._thread.join()
        if self._error:
            raise self._error

    def stop(self) -> None:
        """Leave no file."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()
        self.ready.unlink(missing_ok=True)

    def _read(self, n: int) -> bytes:
        """The next n bytes of the part, as soon as it has them; fewer at its end."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._complete or self._size - self._at >= n)
            if self._stopped:
                raise _Stopped
            n = min(n, self._size - self._at)
        data = self._part.read(n)
        self._at += n
        return data

    def _run(self) -> None:
        try:
            with self._part, open(self.ready, "wb") as file:
                if self._compression:
                    with pa.CompressedOutputStream(file, self._compression) as packed:
                        while block := self._read(_BLOCK):
                            packed.write(block)
                else:
                    self._to_parquet(file)
                if not file.closed:
                    file.flush()
                    os.fsync(file.fileno())
        except _Stopped:
            pass
        except BaseException as error:
            self._error = error

    def _to_parquet(self, file: IO[bytes]) -> None:
        """Row groups of equal size, whatever the batches were: the same rows make the same bytes."""
        schema: Any = self._schema
        # Posteriors hardly repeat: dictionaries of them take a third of the time and save a twentieth of the size.
        texts = [field.name for field in schema if pa.types.is_string(field.type)]
        with pq.ParquetWriter(file, schema, use_dictionary=texts) as writer:
            held = pa.Table.from_batches([], schema)  # not schema.empty_table, which loads pandas
            while size := self._read(8):
                batch = pa.ipc.read_record_batch(pa.py_buffer(self._read(int.from_bytes(size, "little"))), schema)
                held = pa.concat_tables([held, pa.Table.from_batches([batch])])
                while held.num_rows >= ROW_GROUP:
                    writer.write_table(held.slice(0, ROW_GROUP).combine_chunks(), row_group_size=ROW_GROUP)
                    held = held.slice(ROW_GROUP)
            if held.num_rows:
                writer.write_table(held.combine_chunks(), row_group_size=ROW_GROUP)
