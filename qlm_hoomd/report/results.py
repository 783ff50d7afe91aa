"""What a report section is handed, and what it gives back."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from qlm_hoomd.base.display import Displayed, counted
from qlm_hoomd.base.errors import InputError, PluginError
from qlm_hoomd.base.registry import STAGES
from qlm_hoomd.ensemble.realisation import CHECKSUMS, Failure, Realisation
from qlm_hoomd.model import PARAMETERS
from qlm_hoomd.protocol import Analysis as Settings
from qlm_hoomd.protocol import protocol_hash
from qlm_hoomd.report.analysis import analyse
from qlm_hoomd.report.collect import collect, product_provenance, read_protocol, realisations
from qlm_hoomd.report.numbers import Analysis
from qlm_hoomd.stages.base import RESERVED_TABLES, AbsentStage, Stage

if TYPE_CHECKING:
    from matplotlib.figure import Figure


NONLINEAR_KINDS = {"Cubic": "cubic", "PseudoHarmonic": "pseudo-harmonic", "Quartic": "quartic"}
"""Column ``kind`` of ``qlms.parquet`` and its word, the kind that moves most as instabilities do first."""


@dataclass(frozen=True)
class SectionFigure:
    """A figure of a section.

    Args:
        name: of the files, letters, digits, '-' and '_'; unique in the report.
        figure: a matplotlib figure that pyplot need not know.
        caption: HTML below it. Escape what is not yours (``markupsafe.escape``).
        numbers: anchor of the table in the page that has its numbers, if there is one.
        view: modes that the page shows in three dimensions in place of the picture, where it can (``ModeView.data``).
        inline: whether the page shows it; else it names its files.
    """

    name: str
    figure: Figure
    caption: str = ""
    numbers: str = ""
    view: Mapping[str, Any] | None = None
    inline: bool = True

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


@dataclass(frozen=True, repr=False)
class Run(Displayed):
    """One output folder of ``qlm run``.

    Args:
        directory: the folder.
        protocol: the protocol as plain values.
    """

    directory: Path
    protocol: Mapping[str, Any]

    def _headline(self) -> str:
        return f"{self.name} in {self.directory}"

    @property
    def name(self) -> str:
        """Name of the protocol."""
        return str(self.protocol.get("name", self.directory.name))

    @cached_property
    def hash(self) -> str:
        """Hash of model, engine and stages of the protocol, 16 hex digits."""
        return protocol_hash(self.protocol)

    @property
    def preparations(self) -> Mapping[str, Any]:
        """Settings of the preparations by name, as the protocol orders them."""
        return dict(self.protocol.get("ensemble", {}).get("preparations", {}))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Particle numbers that the protocol asks for, ascending."""
        return tuple(sorted(int(size) for size in self.protocol.get("ensemble", {}).get("n_particles", ())))

    def planned(self, n_particles: int) -> int:
        """Realisations that the protocol asks for, per preparation at this size."""
        if n_particles not in self.sizes:
            return 0
        wanted = self.protocol.get("ensemble", {}).get("realisations", 0)
        return int(wanted.get(str(n_particles), 0) if isinstance(wanted, Mapping) else wanted)

    def stage(self, kind: str) -> Mapping[str, Any] | None:
        """Settings of the stage of that kind, None where the protocol has none."""
        return next((stage for stage in self.protocol.get("stages", ()) if stage.get("kind") == kind), None)

    @cached_property
    def stages(self) -> Mapping[str, Stage]:
        """The stages of the protocol by kind, in order.

        An :class:`AbsentStage` for one whose plugin is not installed or does not take its settings.
        """
        stages = self.protocol.get("stages")
        named = [stage for stage in stages if isinstance(stage, Mapping)] if isinstance(stages, list) else []
        return {str(stage["kind"]): _built(stage) for stage in named if "kind" in stage}

    def done(self, realisation: Realisation) -> frozenset[str]:
        """Kinds of the stages that a realisation has been through."""
        states = zip(self.stages, realisation.stage_states(tuple(self.stages.values())), strict=True)
        return frozenset(kind for kind, state in states if state == "done")

    def tables(self, found: Sequence[Realisation]) -> tuple[str, ...]:
        """Names of the tables that the stages may have written, in the order of the stages."""
        names: dict[str, None] = {}
        for kind, stage in self.stages.items():
            if not isinstance(stage, AbsentStage):
                names |= dict.fromkeys(stage.tables())
            else:
                files = sorted({name for realisation in found for name in _files_of(realisation, kind)})
                names |= {name.removesuffix(".parquet"): None for name in files if name.endswith(".parquet")}
        return tuple(name for name in names if name not in RESERVED_TABLES)

    def owns(self, realisation: Realisation) -> bool:
        """Whether the protocol asks for this realisation; a workspace keeps what earlier versions of a protocol made."""
        preparation, n_particles, index = realisation.key
        point = realisation.statepoint
        return (
            point.get("protocol_hash") == self.hash
            and point.get("seed") == self.protocol.get("seed")
            and point.get("preparation_settings") == self.preparations.get(preparation)
            and index < self.planned(n_particles)
        )


@dataclass(frozen=True, repr=False)
class Results(Displayed):
    """An ensemble as far as it is done. Every section of a report, ours or a plugin's, is a function of this object.

    Args:
        folder: where the report goes.
        runs: the output folders that it is made from; their preparations have different names, their models agree.
        settings: of the analysis, those of the first run.
        realisations: those in the workspaces that belong to the protocols, by preparation, size and index.
        strangers: number of realisations in the workspaces that other protocols made; they are left out of everything.
        tables: every table that a stage of the protocols wrote, by its name without ``.parquet``: ``steps`` and ``events`` of
            the stage shear, ``modes`` of modes, those of a plugin's stages likewise. The rows are those of all realisations
            together; the columns those of the realisation's own table, after preparation, n_particles and realisation.
        unreadable: products that could not be read, by (preparation, N, realisation).
    """

    folder: Path
    runs: tuple[Run, ...]
    settings: Settings
    realisations: tuple[Realisation, ...]
    strangers: int
    tables: Mapping[str, pl.DataFrame]
    unreadable: Mapping[tuple[str, int, int], list[Failure]] = field(default_factory=dict)

    @classmethod
    def load(cls, *directories: Path, out: Path | None = None) -> Results:
        """Gather what is in ``directories``, and write the tables.

        Args:
            directories: one or more output folders of runs.
            out: where the report goes; by default the folder ``results`` of the only run.

        Raises:
            InputError: if one is not the output folder of a run, if two runs have a preparation of one name or different
                models, or if there are several and no ``out``.
        """
        runs = tuple(Run(directory, read_protocol(directory)) for directory in directories)
        _check_together(runs, out)
        found = [(run, realisation) for run in runs for realisation in realisations(run.directory)]
        own = tuple(realisation for run, realisation in found if run.owns(realisation))
        folder = runs[0].directory / "results" if out is None else out
        names = tuple(dict.fromkeys(name for run in runs for name in run.tables(own)))
        tables, unreadable = collect(own, names, folder, {"protocol_hash": _joint_hash(runs)})
        return cls(
            folder=folder,
            runs=runs,
            settings=Settings.from_protocol(runs[0].protocol),
            realisations=own,
            strangers=len(found) - len(own),
            tables=tables,
            unreadable=unreadable,
        )

    def _headline(self) -> str:
        return f"{self.name}, {counted(len(self.realisations), 'realisation')}"

    def _facts(self) -> Mapping[str, Any]:
        return {"runs": self.runs, **{name: f"{len(table)} rows" for name, table in self.tables.items()}}

    @property
    def name(self) -> str:
        """Names of the protocols."""
        return " + ".join(dict.fromkeys(run.name for run in self.runs))

    @property
    def protocol(self) -> Mapping[str, Any]:
        """The protocol of the first run as plain values."""
        return self.runs[0].protocol

    @property
    def hash(self) -> str:
        """Hashes of model, engine and stages of the protocols, 16 hex digits each, joined by '+'."""
        return _joint_hash(self.runs)

    @property
    def provenance(self) -> dict[str, Any]:
        """What every file of the report carries: the hashes of the protocols, and the versions that made the realisations."""
        return {"protocol_hash": self.hash, "versions": list(self.versions)}

    @cached_property
    def preparations(self) -> tuple[str, ...]:
        """Names of the preparations, as the runs and their protocols order them."""
        return tuple(name for run in self.runs for name in run.preparations)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Particle numbers that the protocols ask for, ascending."""
        return tuple(sorted({size for run in self.runs for size in run.sizes}))

    def run_of(self, preparation: str) -> Run:
        """The run that has this preparation."""
        return next(run for run in self.runs if preparation in run.preparations)

    def glasses_anchor(self, preparation: str, n_particles: int) -> str:
        """Where the page lists the realisations of this preparation and size."""
        return f"glasses-{self.preparations.index(preparation)}-{n_particles}"

    @property
    def seeks_exponents(self) -> bool:
        """Whether a stage shears glasses or looks for their modes, whatever its name: then there are exponents to expect."""
        written = {name for run in self.runs for stage in run.stages.values() for name in stage.tables()}
        # What `shear` writes cannot be asked where its plugin is not installed.
        return bool({"events", "modes"} & {*written, *self.tables}) or self.stage("shear") is not None

    def exponents_anchor(self, preparation: str, strain: float) -> str:
        """Where the page has the exponents of this preparation at this strain of the analysis."""
        return f"exponents-{self.preparations.index(preparation)}-{self.settings.strains.index(strain)}"

    def planned(self, preparation: str, n_particles: int) -> int:
        """Realisations that the protocol of this preparation asks for at this size."""
        return self.run_of(preparation).planned(n_particles)

    @property
    def density(self) -> float:
        """Number density [1 / length^d]."""
        return float(self.protocol.get("model", {}).get("density", PARAMETERS["density"].value))

    @property
    def dimensions(self) -> int:
        """Dimensions of space d, 2 or 3."""
        return int(self.protocol.get("model", {}).get("dimensions", 3))

    def box_length(self, n_particles: int) -> float:
        """Edge of the box [length]."""
        return float((n_particles / self.density) ** (1 / self.dimensions))

    def stage(self, kind: str) -> Mapping[str, Any] | None:
        """Settings of the stage of that kind in the first protocol that has one, None where none has."""
        return next((stage for run in self.runs if (stage := run.stage(kind)) is not None), None)

    @cached_property
    def stages(self) -> tuple[str, ...]:
        """Kinds of the stages of all protocols, in order."""
        return tuple(dict.fromkeys(kind for run in self.runs for kind in run.stages))

    @cached_property
    def done(self) -> Mapping[tuple[str, int, int], frozenset[str]]:
        """Kinds of the stages that each realisation has been through, by (preparation, N, realisation)."""
        return {each.key: self.run_of(each.key[0]).done(each) for each in self.realisations}

    def n_done(self, preparation: str, n_particles: int, kind: str | None = None) -> int | None:
        """Number of realisations of this preparation and size that have been through a stage.

        None where their protocol has none such.

        Args:
            preparation: of the realisations.
            n_particles: of the realisations.
            kind: of the stage; by default all stages of the protocol.
        """
        wanted = set(self.run_of(preparation).stages)
        if kind is not None and kind not in wanted:
            return None
        wanted = wanted if kind is None else {kind}
        return sum(kinds >= wanted for key, kinds in self.done.items() if key[:2] == (preparation, n_particles))

    def nonlinear_modes(self, preparation: str) -> pl.DataFrame:
        """The nonlinear modes of a preparation, those of the first of :data:`NONLINEAR_KINDS` that was looked for.

        Empty where none was.
        """
        table = self.tables.get("qlms", pl.DataFrame())
        if not {"kind", "kappa_theory", "cubic_strain"} <= set(table.columns):
            return pl.DataFrame()
        own = table.filter(preparation=preparation)
        kinds = own["kind"].unique().to_list()
        return own.filter(kind=next((kind for kind in NONLINEAR_KINDS if kind in kinds), ""))

    @cached_property
    def failures(self) -> tuple[tuple[Realisation, Failure], ...]:
        """Everything that went wrong, with the realisation it went wrong in."""
        return tuple(
            (realisation, failure)
            for realisation in self.realisations
            for failure in (*realisation.failures(), *self.unreadable.get(realisation.key, ()))
        )

    @cached_property
    def versions(self) -> tuple[dict[str, str], ...]:
        """The different sets of versions that the realisations were made with."""
        found = {}
        for realisation in self.realisations:
            carried = product_provenance(realisation, tuple(self.tables))
            if carried is not None:
                versions = {str(name): str(version) for name, version in dict(carried.get("versions", {})).items()}
                found[json.dumps(versions, sort_keys=True)] = versions
        return tuple(found.values())

    @cached_property
    def analysis(self) -> Analysis:
        """The numbers: means, spectra, exponents."""
        return analyse(
            self.tables,
            self.settings,
            preparations=self.preparations,
            density=self.density,
            dimensions=self.dimensions,
        )


def _files_of(realisation: Realisation, kind: str) -> tuple[str, ...]:
    """The files of a stage that cannot be asked, by the record of them; without any record all tables that are there."""
    if realisation.has(CHECKSUMS):
        return realisation.files_of(kind)
    return tuple(path.name for path in realisation.directory.glob("[!.]*.parquet"))


def _built(settings: Mapping[str, Any]) -> Stage:
    """A stage from its settings as plain values; an absent one where it cannot be had: a report is made all the same."""
    kind = str(settings["kind"])
    try:
        stage = STAGES.load(kind).model_validate(dict(settings))
    except Exception:  # noqa: BLE001  (a stranger's: it may fail in any way, and so may a detector within it)
        stage = None
    return stage if isinstance(stage, Stage) else AbsentStage(kind=kind)


def _joint_hash(runs: Sequence[Run]) -> str:
    return "+".join(dict.fromkeys(run.hash for run in runs))


def _check_together(runs: Sequence[Run], out: Path | None) -> None:
    """Refuse runs that make no ensemble together."""
    if not runs:
        raise InputError("no folder given; expected at least one output folder of a 'qlm run'.")
    if len(runs) > 1 and out is None:
        raise InputError(f"{len(runs)} runs and no folder for their common report; expected one. Give it with --out.")
    first = runs[0]
    owner: dict[str, Path] = {}
    writers: dict[str, str] = {}
    for run in runs:
        for kind, stage in run.stages.items():
            for name in stage.tables():
                if writers.setdefault(name, kind) != kind:
                    raise InputError(
                        f"the stages '{writers[name]}' and '{kind}' of these runs both write {name}.parquet; expected one "
                        "of them, for a report has one table of each name. Report these runs one by one."
                    )
        if run.protocol.get("model") != first.protocol.get("model"):
            raise InputError(
                f"the models of {first.directory} and {run.directory} differ ({_difference(first, run)}); expected one model, "
                "for a report compares preparations of one glass. Report these runs one by one."
            )
        for name in run.preparations:
            if name in owner:
                raise InputError(
                    f"both {owner[name]} and {run.directory} have a preparation '{name}'; expected different names, by "
                    "which the report tells them apart. Report these runs one by one, or give the preparations names of "
                    "their own."
                )
            owner[name] = run.directory


def _difference(one: Run, other: Run) -> str:
    """The first setting of the model in which two runs differ."""
    a, b = (dict(run.protocol.get("model") or {}) for run in (one, other))
    name = next(name for name in sorted({*a, *b}) if a.get(name) != b.get(name))
    return f"{name}: {json.dumps(a.get(name))} and {json.dumps(b.get(name))}"
