"""What a report section is handed, and what it gives back."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from qlm_hoomd.errors import PluginError
from qlm_hoomd.model import PARAMETERS
from qlm_hoomd.report.analysis import Analysis, Settings, analyse
from qlm_hoomd.report.collect import Failure, Realisation, collect, product_provenance, read_protocol, realisations

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class SectionFigure:
    """A figure of a section.

    Args:
        name: of the files, letters, digits, '-' and '_'; unique in the report.
        figure: a matplotlib figure that pyplot need not know.
        caption: HTML below it. Escape what is not yours (``markupsafe.escape``).
    """

    name: str
    figure: Figure
    caption: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", self.name):
            raise PluginError(f"figure name '{self.name}'; expected letters, digits, '-' and '_' only.")


@dataclass(frozen=True)
class Section:
    """A section of the report.

    Args:
        title: heading, plain text.
        html: text above the figures, as HTML. Escape what is not yours; :mod:`qlm_hoomd.report.markup` has helpers that do.
        figures: each is shown, and saved as PDF and PNG.
        tables: what stands below the figures, as HTML.
    """

    title: str
    html: str = ""
    figures: tuple[SectionFigure, ...] = ()
    tables: str = ""


@dataclass(frozen=True)
class Results:
    """An ensemble as far as it is done. Every section of a report, ours or a plugin's, is a function of this object.

    Args:
        directory: output folder of the run.
        protocol: the protocol as plain values.
        settings: of the analysis.
        realisations: those in the workspace that belong to the protocol, by preparation, size and index.
        strangers: number of realisations in the workspace that another protocol made; they are left out of everything.
        tables: ``steps``, ``events``, ``modes``, ``moduli``, ``structure``, ``structure_functions``, as far as they exist; the
            columns are those of the products of a realisation, after preparation, n_particles and realisation.
        unreadable: products that could not be read, by (preparation, N, realisation).
    """

    directory: Path
    protocol: Mapping[str, Any]
    settings: Settings
    realisations: tuple[Realisation, ...]
    strangers: int
    tables: Mapping[str, pl.DataFrame]
    unreadable: Mapping[tuple[str, int, int], list[Failure]] = field(default_factory=dict)

    @classmethod
    def load(cls, directory: Path) -> Results:
        """Gather what is in ``directory``, and write the tables to its folder ``results``.

        Raises:
            InputError: if it is not the output folder of a run.
        """
        protocol = read_protocol(directory)
        found = realisations(directory)
        own = tuple(realisation for realisation in found if _belongs(realisation, protocol))
        tables, unreadable = collect(own, directory / "results", {"protocol_hash": protocol_hash(protocol)})
        return cls(
            directory=directory,
            protocol=protocol,
            settings=Settings.from_protocol(protocol),
            realisations=own,
            strangers=len(found) - len(own),
            tables=tables,
            unreadable=unreadable,
        )

    @property
    def name(self) -> str:
        """Name of the protocol."""
        return str(self.protocol.get("name", self.directory.name))

    @cached_property
    def hash(self) -> str:
        """Hash of model, engine and stages of the protocol, 16 hex digits."""
        return protocol_hash(self.protocol)

    @cached_property
    def preparations(self) -> tuple[str, ...]:
        """Names of the preparations, as the protocol orders them."""
        return tuple(self.protocol.get("ensemble", {}).get("preparations", ()))

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Particle numbers that the protocol asks for, ascending."""
        return tuple(sorted(int(size) for size in self.protocol.get("ensemble", {}).get("n_particles", ())))

    def planned(self, n_particles: int) -> int:
        """Realisations that the protocol asks for, per preparation at this size."""
        return planned(self.protocol, n_particles)

    @property
    def density(self) -> float:
        """Number density [1 / length^3]."""
        return float(self.protocol.get("model", {}).get("density", PARAMETERS["density"].value))

    def box_length(self, n_particles: int) -> float:
        """Edge of the box [length]."""
        return float((n_particles / self.density) ** (1 / 3))

    def stage(self, kind: str) -> Mapping[str, Any] | None:
        """Settings of the stage of that kind, None where the protocol has none."""
        return next((stage for stage in self.protocol.get("stages", ()) if stage.get("kind") == kind), None)

    @cached_property
    def failures(self) -> tuple[tuple[Realisation, Failure], ...]:
        """Everything that went wrong, with the realisation it went wrong in."""
        return tuple(
            (realisation, failure)
            for realisation in self.realisations
            for failure in (*realisation.failures, *self.unreadable.get(realisation.key, ()))
        )

    @cached_property
    def versions(self) -> tuple[dict[str, str], ...]:
        """The different sets of versions that the realisations were made with."""
        found = {}
        for realisation in self.realisations:
            carried = product_provenance(realisation)
            if carried is not None:
                versions = {str(name): str(version) for name, version in dict(carried.get("versions", {})).items()}
                found[json.dumps(versions, sort_keys=True)] = versions
        return tuple(found.values())

    @cached_property
    def analysis(self) -> Analysis:
        """The numbers: means, spectra, exponents."""
        return analyse(self.tables, self.settings, preparations=self.preparations, density=self.density)


def planned(protocol: Mapping[str, Any], n_particles: int) -> int:
    """Realisations that ``protocol`` asks for, per preparation at this size."""
    wanted = protocol.get("ensemble", {}).get("realisations", 0)
    return int(wanted.get(str(n_particles), 0) if isinstance(wanted, Mapping) else wanted)


def protocol_hash(protocol: Mapping[str, Any]) -> str:
    """The hash of ``Protocol.hash`` from plain values, so that a report needs none of the plugins that its protocol names."""
    settings = {name: protocol.get(name) for name in ("model", "engine", "stages")}
    return hashlib.sha256(json.dumps(settings, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


def _belongs(realisation: Realisation, protocol: Mapping[str, Any]) -> bool:
    """Whether ``protocol`` asks for this realisation; a workspace keeps what earlier versions of a protocol made."""
    preparation, n_particles, index = realisation.key
    ensemble = protocol.get("ensemble", {})
    point = realisation.statepoint
    return (
        point.get("protocol_hash") == protocol_hash(protocol)
        and point.get("seed") == protocol.get("seed")
        and point.get("preparation_settings") == ensemble.get("preparations", {}).get(preparation)
        and n_particles in ensemble.get("n_particles", ())
        and index < planned(protocol, n_particles)
    )
