"""What a workspace holds, gathered: realisations, their failures, and their tables put together."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from qlm_hoomd.base.errors import InputError
from qlm_hoomd.base.files import read_json, read_table, read_table_metadata
from qlm_hoomd.stages.base import replacing

TABLES = ("steps", "events", "modes", "moduli", "qlms", "structure", "structure_functions", "trials")
"""Tables that every realisation may have, and that ``results/`` gets as one file each."""
KEYS = ("preparation", "n_particles", "realisation")
"""Columns that tell whose row it is; they come first, and rows are sorted by them."""


@dataclass(frozen=True)
class Failure:
    """A stage that failed, or a product that cannot be read.

    Args:
        stage: name of the stage, or of the product.
        error: class of the error.
        message: what it said.
    """

    stage: str
    error: str
    message: str


@dataclass(frozen=True)
class Realisation:
    """One realisation in the workspace.

    Args:
        path: its folder.
        statepoint: ``protocol_hash``, ``n_particles``, ``preparation``, ``seed``, ``realisation``, ...
        failures: what went wrong in it.
    """

    path: Path
    statepoint: Mapping[str, Any]
    failures: tuple[Failure, ...]

    @property
    def key(self) -> tuple[str, int, int]:
        """(preparation, N, index), in the order of :data:`KEYS`."""
        point = self.statepoint
        return str(point["preparation"]), int(point["n_particles"]), int(point["realisation"])

    def has(self, product: str) -> bool:
        """Whether the product of that name is there."""
        return (self.path / product).is_file()


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
    for path in sorted((directory / "workspace").glob("*/signac_statepoint.json")):
        try:
            realisation = Realisation(path.parent, read_json(path), _failures(path.parent))
            found.append((realisation.key, realisation))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return tuple(realisation for _, realisation in sorted(found, key=lambda pair: (pair[0], str(pair[1].path))))


def collect(
    found: Sequence[Realisation], directory: Path, metadata: Mapping[str, Any]
) -> tuple[dict[str, pl.DataFrame], dict[tuple[str, int, int], list[Failure]]]:
    """Put the tables of all realisations together and write them to ``directory``.

    Args:
        found: the realisations; their order is that of the rows.
        directory: where NAME.parquet goes; tables that no realisation has are removed from there.
        metadata: provenance of the tables.

    Returns:
        The tables by name, those that nobody has left out, and for each realisation the products that could not be read.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tables: dict[str, pl.DataFrame] = {}
    broken: dict[tuple[str, int, int], list[Failure]] = {}
    for name in TABLES:
        parts = []
        for realisation in found:
            if realisation.has(f"{name}.parquet"):
                try:
                    part = read_table(realisation.path / f"{name}.parquet")
                except (pl.exceptions.PolarsError, OSError) as error:
                    message = str(error).splitlines()[0] if str(error) else "unreadable"
                    broken.setdefault(realisation.key, []).append(Failure(f"{name}.parquet", type(error).__name__, message))
                    continue
                keys = [pl.lit(value).alias(key) for key, value in zip(KEYS, realisation.key, strict=True)]
                parts.append(part.select(*keys, pl.exclude(*KEYS)))
        path = directory / f"{name}.parquet"
        if not parts:
            path.unlink(missing_ok=True)
            continue
        # Plugins may add columns to some realisations only.
        tables[name] = pl.concat(parts, how="diagonal_relaxed")
        write_table(path, tables[name], metadata)
    return tables, broken


def write_table(path: Path, table: pl.DataFrame, metadata: Mapping[str, Any]) -> None:
    """Write ``table`` to ``path`` whole or not at all, with ``metadata`` under the key ``qlm_hoomd``."""
    with replacing(path) as temporary:
        table.write_parquet(temporary, metadata={"qlm_hoomd": json.dumps(metadata, sort_keys=True)})


def product_provenance(realisation: Realisation) -> dict[str, Any] | None:
    """The provenance that the first table of ``realisation`` carries, None if it has none."""
    for name in TABLES:
        if realisation.has(f"{name}.parquet"):
            try:
                carried = json.loads(read_table_metadata(realisation.path / f"{name}.parquet")["qlm_hoomd"])
            except (pl.exceptions.PolarsError, OSError, KeyError, ValueError):
                continue
            return carried if isinstance(carried, dict) else None
    return None


def _failures(path: Path) -> tuple[Failure, ...]:
    found = []
    for record in sorted((path / "failed").glob("*.json")):
        try:
            content = read_json(record)
            found.append(Failure(str(content.get("stage", record.stem)), str(content["error"]), str(content["message"])))
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            found.append(Failure(record.stem, "unknown", "the record of this failure cannot be read"))
    return tuple(found)
