"""What a workspace holds, gathered: realisations, their failures, and their tables put together."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from qlm_hoomd.base.errors import InputError, NotAsWritten, QlmError
from qlm_hoomd.base.files import read_json, read_table, read_table_metadata, write_table
from qlm_hoomd.ensemble.realisation import Failure, Realisation
from qlm_hoomd.ensemble.workspace import left_out_of
from qlm_hoomd.stages.base import KEYS, RESERVED_TABLES


def read_protocol(directory: Path) -> dict[str, Any]:
    """The protocol that ``directory`` was made with, as plain values.

    Raises:
        InputError: if there is none, or it cannot be read.
    """
    path = directory / "protocol.json"
    try:
        protocol = read_json(path)
    except FileNotFoundError:
        raise InputError(f"{directory} holds no protocol.json; expected the output folder of a 'qlm run'.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); expected the file that 'qlm run' wrote. Run it again.") from error
    if not isinstance(protocol, dict):
        raise InputError(f"{path} holds a {type(protocol).__name__}; expected a mapping. Run 'qlm run' again.")
    return protocol


def realisations(directory: Path) -> tuple[Realisation, ...]:
    """The realisations in ``directory``/workspace, by preparation, size and index; a folder without a state point is none."""
    found = []
    left_out = left_out_of(directory)
    for path in sorted((directory / "workspace").glob("*/signac_statepoint.json")):
        try:
            realisation = Realisation(path.parent, read_json(path), left_out.get(path.parent.name, frozenset()))
            found.append((realisation.key, realisation))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return tuple(realisation for _, realisation in sorted(found, key=lambda pair: (pair[0], str(pair[1].directory))))


def collect(
    found: Sequence[Realisation], names: Sequence[str], directory: Path, metadata: Mapping[str, Any]
) -> tuple[dict[str, pl.DataFrame], dict[tuple[str, int, int], list[Failure]]]:
    """:func:`gather` the tables of all realisations, and write them to ``directory``.

    Args:
        found: the realisations; their order is that of the rows.
        names: of the tables, as the stages have them (:meth:`~qlm_hoomd.stages.base.Stage.tables`).
        directory: where NAME.parquet goes; tables that no realisation has are removed from there.
        metadata: provenance of the tables.
    """
    tables, broken = gather(found, names)
    directory.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        write_table(directory / f"{name}.parquet", table, metadata)
    for path in directory.glob("*.parquet"):
        if path.stem not in tables and path.stem not in RESERVED_TABLES and _is_ours(path):
            path.unlink()
    return tables, broken


def gather(
    found: Sequence[Realisation], names: Sequence[str]
) -> tuple[dict[str, pl.DataFrame], dict[tuple[str, int, int], list[Failure]]]:
    """Put the tables of all realisations together.

    Args:
        found: the realisations; their order is that of the rows.
        names: of the tables.

    Returns:
        The tables by name, those that nobody has left out, and for each realisation the products that could not be read.
    """
    tables: dict[str, pl.DataFrame] = {}
    broken: dict[tuple[str, int, int], list[Failure]] = {}
    for name in names:
        parts = []
        for realisation in found:
            product = f"{name}.parquet"
            if realisation.has(product):
                try:
                    part = _proved(realisation, product)
                except (pl.exceptions.PolarsError, OSError, QlmError) as error:
                    message = str(error).splitlines()[0] if str(error) else "unreadable"
                    broken.setdefault(realisation.key, []).append(Failure(product, type(error).__name__, message))
                    continue
                keys = [pl.lit(value).alias(key) for key, value in zip(KEYS, realisation.key, strict=True)]
                parts.append(part.select(*keys, pl.exclude(*KEYS)))
        if parts:
            # Plugins may add columns to some realisations only.
            tables[name] = pl.concat(parts, how="diagonal_relaxed")
    return tables, broken


def _proved(realisation: Realisation, product: str) -> pl.DataFrame:
    """The table, if it is what the stage wrote, and made from what is there.

    Raises:
        NotAsWritten: if it is not.
        OSError: if it cannot be read.
        polars.exceptions.PolarsError: as :func:`~qlm_hoomd.base.files.read_table`.
    """
    content = (realisation.directory / product).read_bytes()
    known = realisation.recorded
    if product in known and known[product]["sha256"] != hashlib.sha256(content).hexdigest():
        raise NotAsWritten(
            "its bytes are not those that its stage wrote: it is left out of everything. `qlm verify --set-aside` and `qlm "
            "run` make it again."
        )
    others = realisation.made_from_others(product, known)
    if others:
        raise NotAsWritten(
            f"it was made from another {' and '.join(others)} than what is there now: it is left out of everything. `qlm "
            "run` makes it again."
        )
    return read_table(io.BytesIO(content))


def _is_ours(path: Path) -> bool:
    """Whether an earlier report made this table: products carry more than the hash of a protocol, and files of others no such thing."""
    try:
        return set(json.loads(read_table_metadata(path)["qlm_hoomd"])) == {"protocol_hash"}
    except (pl.exceptions.PolarsError, OSError, KeyError, ValueError, TypeError):
        return False


def product_provenance(realisation: Realisation, names: Sequence[str]) -> dict[str, Any] | None:
    """The provenance that the first of these tables of ``realisation`` carries, None if it has none."""
    for name in names:
        if realisation.has(f"{name}.parquet"):
            try:
                carried = json.loads(read_table_metadata(realisation.directory / f"{name}.parquet")["qlm_hoomd"])
            except (pl.exceptions.PolarsError, OSError, KeyError, ValueError):
                continue
            return carried if isinstance(carried, dict) else None
    return None
