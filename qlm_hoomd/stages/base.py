"""What a stage of a protocol is, and what it is handed.

A stage is a function from a realisation's folder to product files. It is done when its products are there, and running it
again after a crash gives the same bytes. Plugins register stages under the entry point group ``qlm_hoomd.stages``.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self
from zlib import crc32

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict

from qlm_hoomd.base.checkpoint import Checkpoint
from qlm_hoomd.base.files import replacing as replacing  # noqa: PLC0414  (plugins find it here)

if TYPE_CHECKING:
    from qlm_hoomd.engines.base import Engine
    from qlm_hoomd.model import GlassModel


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
        """Write ``table`` as the parquet product ``name``, with the provenance in the file's metadata."""
        with self.product(name) as temporary:
            table.write_parquet(temporary, metadata={"qlm_hoomd": json.dumps(self.provenance, sort_keys=True)})


class Stage(BaseModel):
    """Base of every stage. Subclasses are pydantic models with a literal ``kind``; their fields are the stage's settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: str
    """Its name in protocols and messages: subclasses narrow it to a literal, with that as the default."""
    growing: ClassVar[frozenset[str]] = frozenset()
    """Settings that only say how far the stage goes: numbers that may rise and lists that may get longer in a folder that
    holds results already, as what they asked for before comes out the same."""
    cost_power: ClassVar[float] = 1.5
    """About the power of N by which the time of the stage grows, for forecasts from small systems where no large one has run."""

    def check(self, model: GlassModel, n_particles: list[int]) -> None:
        """Refuse settings that cannot work for this model or these sizes, before anything runs.

        Raises:
            ValueError: with the fact and the expectation.
        """

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
        """Files that the stage writes; it is done when all are there."""

    @abstractmethod
    def run(self, context: StageContext) -> None:
        """Write the products.

        Raises:
            QlmError: if this realisation fails; it is recorded and the others go on.
        """
