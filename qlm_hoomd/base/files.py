"""Files that are there whole or not at all, and what is read of those that others may have written."""

from __future__ import annotations

import errno
import json
import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from qlm_hoomd.base.errors import StorageFull

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import polars as pl

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path`` that replaces it when the block ends well, and is removed when it does not.

    The content is on the disk before it takes the name, so that a machine that fails leaves the old file or the new one, whole.
    """
    # Machines that share the folder may have processes of the same number.
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is no JSON, or nested too deeply for this interpreter.
    """
    try:
        return json.loads(path.read_bytes())
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def write_table(path: Path, table: pl.DataFrame, provenance: Mapping[str, Any]) -> None:
    """Write ``table`` to a parquet file whole or not at all, with ``provenance`` as JSON in its metadata (key ``qlm_hoomd``)."""
    with replacing(path) as temporary:
        table.write_parquet(temporary, metadata={"qlm_hoomd": json.dumps(provenance, sort_keys=True)})


def read_table(source: Path | BinaryIO) -> pl.DataFrame:
    """The table in a parquet file.

    Raises:
        OSError: if it cannot be read.
        polars.exceptions.PolarsError: if it is no parquet file. On some damaged ones polars panics, which is no Exception and
            would pass every handler; that comes as a ``ComputeError``.
    """
    import polars as pl

    try:
        return pl.read_parquet(source, memory_map=False)
    except pl.exceptions.PanicException as panic:
        raise pl.exceptions.ComputeError(f"not a readable parquet file ({panic})") from None


def table_size(path: Path) -> int:
    """Number of values in a parquet file, rows times columns, by its own account: without reading them.

    Raises:
        OSError: if it cannot be read.
        polars.exceptions.PolarsError: as :func:`read_table`.
    """
    import polars as pl

    try:
        table = pl.scan_parquet(path)
        return int(table.select(pl.len()).collect().item()) * len(table.collect_schema())
    except pl.exceptions.PanicException as panic:
        raise pl.exceptions.ComputeError(f"not a readable parquet file ({panic})") from None


def read_table_metadata(path: Path) -> dict[str, str]:
    """The texts that a parquet file carries beside its table.

    Raises:
        OSError: if it cannot be read.
        polars.exceptions.PolarsError: as :func:`read_table`.
    """
    import polars as pl

    try:
        return pl.read_parquet_metadata(path)
    except pl.exceptions.PanicException as panic:
        raise pl.exceptions.ComputeError(f"not a readable parquet file ({panic})") from None


def is_plain_name(name: Any) -> bool:
    """Whether ``name`` is that of a file in a folder: none that leads out of it, and none that the system cannot write."""
    try:
        return (
            isinstance(name, str)
            and not {"/", "\0"} & set(name)
            and name not in (".", "..")
            and 0 < len(os.fsencode(name)) < 256
        )
    except UnicodeEncodeError:
        return False


def storage_problem(error: BaseException | None, directory: Path) -> StorageFull | None:
    """The error to raise where ``error`` means that nothing more can be written.

    Libraries wrap the system's error in their own.
    """
    while error is not None:
        code = error.errno if isinstance(error, OSError) else None
        for full in _FULL:
            if code == full or os.strerror(full) in str(error):
                return StorageFull(
                    f"{directory}: {os.strerror(full)}. What is finished is kept and nothing is half-written; make room, "
                    "and the same command goes on from there."
                )
        error = error.__cause__ or error.__context__
    return None


@contextmanager
def storage_named(directory: Path) -> Iterator[None]:
    """Turn the system's error that a disk is full, or a quota reached, into :class:`StorageFull`."""
    try:
        yield
    except Exception as error:
        full = storage_problem(error, directory)
        if full is None or isinstance(error, StorageFull):
            raise
        raise full from error
