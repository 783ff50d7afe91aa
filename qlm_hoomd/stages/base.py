"""What a stage of a protocol is, and what it is handed.

A stage is a function from a realisation's folder to product files. It is done when its products are there, and running it
again after a crash gives the same bytes. Plugins register stages under the entry point group ``qlm_hoomd.stages``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self
from zlib import crc32

import numpy as np
from pydantic import BaseModel, ConfigDict

from qlm_hoomd.base.checkpoint import Checkpoint
from qlm_hoomd.base.errors import PluginError
from qlm_hoomd.base.files import replacing, write_table
from qlm_hoomd.base.settings import Settings

if TYPE_CHECKING:
    import polars as pl

    from qlm_hoomd.engines.base import Engine
    from qlm_hoomd.model import GlassModel


RESERVED_FILES = frozenset(
    {"checksums.json", "costs.json", "log.txt", "signac_statepoint.json", "signac_job_document.json", "failed"}
)
"""What else is in the folder of a realisation: no stage may write files of these names."""
RESERVED_TABLES = frozenset({"stress_strain", "minima", "glasses"})
"""The report's own tables in ``results/``: no stage may write tables of these names."""
KEYS = ("preparation", "n_particles", "realisation")
"""Columns that the tables in ``results/`` have first: whose row it is. No table of a stage may have columns of these names."""


@dataclass(frozen=True)
class StageContext:
    """Everything a stage may use.

    Args:
        directory: the realisation's folder, where products go.
        statepoint: its state point: ``n_particles``, ``preparation`` (name), ``seed`` (root), ``realisation`` (index),
            ``protocol_hash``.
        model: potential, density, composition, parent temperature.
        preparation: settings of the preparation that the state point names.
        engine: runs the dynamics.
        provenance: what every product carries.
        progress: takes one short line on how far the stage is; cheap to call.
        checkpoint: keeps the state of a stage that takes long, so that it goes on after an interrupt from where it was.
    """

    directory: Path
    statepoint: Mapping[str, Any]
    model: GlassModel
    preparation: BaseModel
    engine: Engine
    provenance: Mapping[str, Any]
    progress: Callable[[str], None]
    checkpoint: Checkpoint = field(default_factory=Checkpoint)

    @property
    def n_particles(self) -> int:
        """Number of particles of this realisation."""
        return int(self.statepoint["n_particles"])

    def rng(self, stage: str) -> np.random.Generator:
        """The random stream of ``stage`` in this realisation, a child of the protocol's root seed.

        The spawn key is (N, preparation, realisation, stage), so that it depends on nothing that ran before.
        """
        key = (
            self.n_particles,
            crc32(str(self.statepoint["preparation"]).encode()),
            int(self.statepoint["realisation"]),
            crc32(stage.encode()),
        )
        return np.random.default_rng(np.random.SeedSequence(int(self.statepoint["seed"]), spawn_key=key))

    def path(self, product: str) -> Path:
        """Where the product of that name is, or will be."""
        return self.directory / product

    @contextmanager
    def product(self, name: str) -> Iterator[Path]:
        """A temporary path to write the product ``name`` to; it takes its place, whole, when the block ends well."""
        with replacing(self.directory / name) as temporary:
            yield temporary

    def write_table(self, name: str, table: pl.DataFrame) -> None:
        """Write ``table`` as the parquet product ``name``, with the provenance in the file's metadata.

        Raises:
            PluginError: if it has a column of a name in :data:`KEYS`, which in ``results/`` says whose row it is.
        """
        taken = [column for column in table.columns if column in KEYS]
        if taken:
            raise PluginError(
                f"{name} has the columns {', '.join(taken)}; expected other names, for results/ has these in front of all "
                "tables."
            )
        write_table(self.directory / name, table, self.provenance)


class Stage(Settings):
    """Base of every stage. Subclasses are pydantic models with a literal ``kind``; their fields are the stage's settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: str
    """Its name in protocols and messages: subclasses narrow it to a literal, with that as the default."""
    growing: ClassVar[frozenset[str]] = frozenset()
    """Settings that only say how far the stage goes: numbers that may rise and lists that may get longer in a folder that
    holds results already, as what they asked for before comes out the same."""
    cost_power: ClassVar[float] = 1.5
    """About the power of N by which the time of the stage grows, for forecasts from small systems where no large one has
    run."""

    def check(self, model: GlassModel, n_particles: list[int]) -> None:
        """Refuse settings that cannot work for this model or these sizes, before anything runs.

        Raises:
            ValueError: with the fact and the expectation.
        """

    def check_after(self, before: Sequence[Stage]) -> None:
        """Refuse settings that do not go with those of the stages before it in a protocol.

        Raises:
            ValueError: with the fact and the expectation.
        """

    def reaches(self, strain: float) -> bool | None:
        """Whether it measures something of a glass at that accumulated strain; None where it cannot tell."""
        return None

    def work(self, preparation: BaseModel) -> float:
        """What the stage has to do for a glass of that preparation, in any unit: its time at a given N is proportional to it."""
        return 1.0

    def shortened(self, strain: float) -> Self:
        """The same stage with less :meth:`work`, for forecasts from short runs: nothing is done beyond that strain."""
        return self

    @abstractmethod
    def requires(self) -> tuple[str, ...]:
        """Products of earlier stages that this stage reads."""

    @abstractmethod
    def products(self) -> tuple[str, ...]:
        """Files that the stage writes; it is done when all are there.

        Plain names of letters, digits, ``_``, ``.`` and ``-``, that no other stage of a protocol writes. Those that end in
        ``.parquet`` are tables (:meth:`tables`).
        """

    def optional_products(self) -> tuple[str, ...]:
        """Further files that the stage may write before its products, in some realisations or all; it is done without them."""
        return ()

    def tables(self) -> tuple[str, ...]:
        """Names of the tables among its files, without ``.parquet``: ``results/`` has each of them, those of all realisations together."""
        files = (*self.products(), *self.optional_products())
        return tuple(name.removesuffix(".parquet") for name in files if name.endswith(".parquet"))

    @abstractmethod
    def run(self, context: StageContext) -> None:
        """Write the products.

        Raises:
            QlmError: if this realisation fails; it is recorded and the others go on.
        """


class AbsentStage(Stage):
    """A stage whose plugin is not installed, or does not take its settings.

    What it wrote is known from the records of the files alone.
    """

    def requires(self) -> tuple[str, ...]:
        """Unknown."""
        return ()

    def products(self) -> tuple[str, ...]:
        """Unknown."""
        return ()

    def run(self, context: StageContext) -> None:
        """Refuse."""
        raise PluginError(f"the stage '{self.kind}' is not installed; expected its plugin. `qlm plugins` lists what is.")
