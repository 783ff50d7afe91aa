"""How many realisations a protocol needs for an exponent of a given error, from what has run so far, and what they cost.

Numbers are per size and preparation, as a protocol has them. Each exponent, preparation and strain of the analysis makes a
demand on them; one plan meets all, so that the largest decides.

Array suffixes: ``_s`` system sizes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl

from qlm_hoomd.base.display import Displayed
from qlm_hoomd.base.errors import InputError
from qlm_hoomd.ensemble.costs import Costs
from qlm_hoomd.ensemble.local import n_cores
from qlm_hoomd.ensemble.progress import duration
from qlm_hoomd.ensemble.workspace import Realisation
from qlm_hoomd.planning.benchmark import benchmark
from qlm_hoomd.protocol import MAX_REALISATIONS, Protocol
from qlm_hoomd.report.analysis import AS_THRESHOLD, Analysis, Estimate, Settings, analyse
from qlm_hoomd.report.collect import Realisation as Gathered
from qlm_hoomd.report.collect import collect, realisations
from qlm_hoomd.stages.base import Stage
from qlm_hoomd.statistics import FiniteSizeScaling, SpectrumFit
from qlm_hoomd.statistics.exponents import MAX_CENSORED, MIN_REALISATIONS, MIN_SIZE_RATIO, MIN_SIZES
from qlm_hoomd.statistics.planning import (
    CONFIDENCE,
    SHAPES,
    Scatter,
    assumed_scatter,
    cheapest_numbers,
    equal_numbers,
    leverage,
    measured_scatter,
    needed_modes,
)

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]
"""Header and rows."""

_PRODUCTS = {"theta": "events.parquet", "alpha": "modes.parquet"}
_METHODS = {"theta": "gamma_min", "alpha": "omega_min"}
_KINDS = {"theta": "shear", "alpha": "modes"}


@dataclass(frozen=True, repr=False)
class Demand(Displayed):
    """What one exponent of one preparation at one strain asks for.

    Args:
        quantity: ``theta`` or ``alpha``.
        target: half-width of its 95 % interval that is asked for.
        preparation: of the glasses.
        strain: None where nothing is known of any strain yet, and all are taken to be alike.
        detector: that located the instabilities, None where there are none behind it.
        scatter: of the minima, so far or by the theory.
        share: part of the realisations that ended whose minimum counts.
        half_width: of the 95 % interval today; None where it has no end or there is none.
    """

    quantity: str
    target: float
    preparation: str
    strain: float | None
    detector: str | None
    scatter: Scatter
    share: float = 1.0
    half_width: float | None = None

    def _headline(self) -> str:
        return f"{self.label} to +- {self.target:g}"

    @property
    def leverage(self) -> float:
        """Leverage that the numbers of realisations must have."""
        return self.scatter.needed_leverage(self.target) / self.share

    @property
    def factor(self) -> float:
        """By which it may be larger or smaller (95 %)."""
        return self.scatter.uncertainty(self.target)

    @property
    def label(self) -> str:
        """For people, e.g. ``theta of rapid at strain 0.02``."""
        where = "" if self.strain is None else f" at strain {self.strain:g}"
        how = "" if self.detector is None else f" (detector {self.detector})"
        return f"{self.quantity} of {self.preparation}{where}{how}"

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values for JSON."""
        names = ("quantity", "target", "preparation", "strain", "detector", "share", "half_width", "leverage", "factor")
        return {name: getattr(self, name) for name in names} | {
            "exponent": self.scatter.exponent,
            "exponent_assumed": self.scatter.slope_error is None,
            "relative_scatter": self.scatter.relative,
            "n_minima": self.scatter.n_minima,
        }


@dataclass(frozen=True)
class Option(Displayed):
    """One way to reach the targets.

    Args:
        numbers: realisations by size, of each preparation.
        low, high: the same if the demands are as small or as large as they may be (95 %).
        missing: realisations by size that are still to be made, over all preparations.
        core_seconds: what these take here, with its ends for ``low`` and ``high``; None where no cost is known.
    """

    numbers: dict[int, int]
    low: dict[int, int]
    high: dict[int, int]
    missing: dict[int, int]
    core_seconds: tuple[float, float, float] | None

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values for JSON."""
        return {
            "realisations": _keyed(self.numbers),
            "low": _keyed(self.low),
            "high": _keyed(self.high),
            "missing": _keyed(self.missing),
            "core_hours": None if self.core_seconds is None else [seconds / 3600 for seconds in self.core_seconds],
        }


@dataclass(frozen=True, repr=False)
class Plan(Displayed):
    """How many realisations to make.

    Args:
        name: of the protocol.
        directory: folder of the run whose realisations count.
        targets: half-widths of the 95 % intervals by exponent.
        demands: what each exponent, preparation and strain asks for.
        there: realisations that are done, by (N, preparation).
        core_seconds: of one realisation, by (N, preparation); None where unknown.
        core_seconds_done: what all that is done took; None where unknown.
        cheapest: the numbers that cost least.
        equal: equal numbers, but where there are more already.
        cores: of this machine.
        notes: what the reader should know before using the numbers.
    """

    name: str
    directory: Path
    targets: dict[str, float]
    demands: tuple[Demand, ...]
    there: dict[tuple[int, str], int]
    core_seconds: dict[tuple[int, str], float | None]
    core_seconds_done: float | None
    cheapest: Option
    equal: Option
    cores: int
    notes: tuple[str, ...]

    def _headline(self) -> str:
        numbers = ", ".join(f"{count} of N = {size}" for size, count in self.equal.numbers.items())
        return f"{self.name}: {numbers} for each preparation"

    @property
    def deciding(self) -> Demand:
        """The demand that takes most."""
        return max(self.demands, key=lambda demand: demand.leverage)

    @property
    def protocol_line(self) -> str:
        """The cheapest numbers as they go into the protocol."""
        return f"realisations: {{{', '.join(f'{size}: {number}' for size, number in self.cheapest.numbers.items())}}}"

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values for JSON."""
        return {
            "name": self.name,
            "directory": str(self.directory),
            "targets": self.targets,
            "confidence": CONFIDENCE,
            "demands": [demand.to_dict() for demand in self.demands],
            "deciding": self.deciding.to_dict(),
            "realisations": [
                {
                    "n_particles": n,
                    "preparation": preparation,
                    "done": done,
                    "core_seconds_each": self.core_seconds[n, preparation],
                }
                for (n, preparation), done in self.there.items()
            ],
            "core_hours_done": None if self.core_seconds_done is None else self.core_seconds_done / 3600,
            "cheapest": self.cheapest.to_dict(),
            "equal": self.equal.to_dict(),
            "cores": self.cores,
            "notes": list(self.notes),
            "protocol_line": self.protocol_line,
        }

    def report(self) -> Iterator[str | Table]:
        """The plan for people: paragraphs and tables in turn."""
        wanted = " and ".join(f"{name} to +-{target:g}" for name, target in self.targets.items())
        yield f"{self.name} in {self.directory}: {wanted} (+- is half the width of the {100 * CONFIDENCE:g} % interval)\n"
        yield self._demand_table()
        yield f"\n{self.deciding.label} takes most: it decides.\n"
        yield self._number_table()
        yield ""
        if self.core_seconds_done:
            yield f"done: {duration(self.core_seconds_done)} of core time"
        for title, option in (("cheapest numbers", self.cheapest), ("equal numbers", self.equal)):
            yield f"{title}: {self._cost(option)}"
        yield ""
        yield from (f"note: {note}" for note in self.notes)
        yield f"\nInto the protocol, under ensemble:\n  {self.protocol_line}"

    def _demand_table(self) -> Table:
        rows: list[tuple[str, ...]] = []
        sizes = list(self.cheapest.numbers)
        reached = leverage(sizes, list(self.cheapest.numbers.values()))
        for demand in self.demands:
            scatter = demand.scatter
            rows.append((
                demand.quantity,
                demand.preparation,
                "all" if demand.strain is None else f"{demand.strain:g}",
                str(scatter.n_minima) if scatter.n_minima else "-",
                f"{scatter.exponent:.2f}{' (assumed)' if scatter.slope_error is None else ''}",
                f"{scatter.relative:.2f}{'' if scatter.n_minima else ' (assumed)'}",
                "-" if demand.half_width is None else f"+-{demand.half_width:.2g}" if demand.half_width < 100 else "> 100",
                f"+-{scatter.half_width(reached * demand.share):.2g}",
            ))  # fmt: skip
        header: tuple[str, ...] = ("exponent", "preparation", "strain", "minima", "value", "sd/mean", "now", "planned")
        if len({demand.detector for demand in self.demands} - {None}) > 1:
            header = (*header[:3], "detector", *header[3:])
            rows = [(*row[:3], demand.detector or "-", *row[3:]) for row, demand in zip(rows, self.demands, strict=True)]
        return header, rows

    def _number_table(self) -> Table:
        rows = []
        for (size, preparation), there in self.there.items():
            each = self.core_seconds[size, preparation]
            rows.append((
                str(size),
                preparation,
                str(there),
                "unknown" if each is None else duration(each),
                *(cell for option in (self.cheapest, self.equal) for cell in (
                    str(option.numbers[size]),
                    "-" if option.low[size] == option.high[size] else f"{option.low[size]} to {option.high[size]}",
                    str(max(option.numbers[size] - there, 0)),
                )),
            ))  # fmt: skip
        return ("N", "preparation", "done", "core time", "cheapest", "range", "missing", "equal", "range", "missing"), rows

    def _cost(self, option: Option) -> str:
        missing = f"{sum(option.missing.values())} realisations missing"
        if option.core_seconds is None:
            return f"{missing}, at an unknown cost"
        middle, low, high = option.core_seconds
        here = f"{duration(middle / self.cores)} on the {self.cores} core{'s' * (self.cores > 1)} of this machine"
        between = "" if low == high else f" ({duration(low)} to {duration(high)})"
        return f"{missing}, {duration(middle)}{between} of core time, {here}"


def parse_targets(texts: Iterable[str]) -> dict[str, float]:
    """Targets from texts like ``theta=0.05``.

    Raises:
        InputError: if one is no such text, no exponent, or not positive.
    """
    targets: dict[str, float] = {}
    for text in texts:
        name, _, value = (part.strip() for part in text.partition("="))
        if name not in _PRODUCTS:
            raise InputError(f"target '{text}': unknown quantity '{name}'; expected {' or '.join(_PRODUCTS)}, e.g. theta=0.05.")
        try:
            target = float(value)
        except ValueError:
            target = math.nan
        if not (math.isfinite(target) and target > 0):
            raise InputError(
                f"target '{text}': '{value}'; expected a positive number, half the width of the interval: {name}=0.05."
            )
        if name in targets:
            raise InputError(f"two targets for {name}; expected one. Leave one out.")
        targets[name] = target
    return targets


def make_plan(
    protocol: Protocol,
    directory: Path | None,
    targets: Mapping[str, float],
    *,
    measure: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Plan:
    """The numbers of realisations at which the 95 % intervals of the exponents have the half-widths ``targets``.

    Args:
        protocol: whose realisations are planned.
        directory: folder of its run, which is only read; None for runs/<name>, which need not be there.
        targets: half-widths by exponent, ``theta`` or ``alpha``.
        measure: run small realisations elsewhere, where no cost is known (:func:`~qlm_hoomd.planning.benchmark.benchmark`).
        progress: takes lines on that.

    Raises:
        InputError: if the protocol's stages or sizes cannot give such an exponent, or no number of realisations reaches it.
    """
    sizes = sorted(protocol.ensemble.n_particles)
    _assert_plannable(protocol, sizes, targets)
    if directory is None:
        directory = Path("runs") / protocol.name
    elif not directory.is_dir():
        raise InputError(f"{directory} is no folder; expected that of a run. Leave it out for runs/{protocol.name}.")
    found, strangers = _belonging(protocol, directory)
    own = [Realisation(one.path, one.statepoint) for one in found]
    costs = Costs.of_folder(directory, protocol)
    notes = [_strangers(strangers, directory)] if strangers else []
    preparations = list(protocol.ensemble.preparations)
    unknown = [name for name in preparations if any(not costs.sizes(stage.kind, name) for stage in protocol.stages)]
    if unknown and measure:
        notes += benchmark(protocol, unknown, costs, progress=progress)
    elif not costs.any_known:
        notes.append(
            f"nothing in {directory} tells what a realisation costs: the cheapest numbers rest on an assumed cost of "
            f"N^{Stage.cost_power:g}. With --measure small ones are run to see what they take"
        )
    analysis = _analysis(protocol, found)
    demands = tuple(_demands(protocol, targets, own, analysis, notes))
    if not demands:
        raise InputError(
            f"{' and '.join(targets)} cannot be had at any strain of the analysis: {'; '.join(notes)}. Expected strains that "
            "the stages reach; change analysis.strains or the stages."
        )
    whole = [(stage, 1) for stage in protocol.stages]
    totals = {(size, name): costs.total(whole, name, size) for size in sizes for name in preparations}
    each = {key: None if total is None else total[0] for key, total in totals.items()}
    if "alpha" in targets:
        notes += _spectra(analysis, targets["alpha"], each)
    notes += [*_assumptions(demands), *_extrapolations(protocol, costs, sizes, preparations)]
    done = _Done(protocol, sizes, own, costs)
    least = math.ceil(MIN_REALISATIONS / min(demand.share for demand in demands))
    at_least_s = np.array([max(least, done.begun[size]) for size in sizes])
    price_s = np.array([sum(each[size, name] or np.nan for name in preparations) for size in sizes])
    if not np.all(price_s > 0):
        price_s = np.asarray(sizes, dtype=np.float64) ** Stage.cost_power
    most = leverage(sizes, np.full(len(sizes), MAX_REALISATIONS)) / (1 + 1e-5)
    needed, *ends = (max(demand.leverage * demand.factor**power for demand in demands) for power in (0, -1, 1))
    if needed > most:
        raise _unreachable(demands, most)
    needs = [min(s, most) for s in (needed, *ends)]
    cheapest = [cheapest_numbers(sizes, price_s, s, at_least=at_least_s, at_most=MAX_REALISATIONS) for s in needs]
    equal = [equal_numbers(sizes, s, at_least=at_least_s, at_most=MAX_REALISATIONS) for s in needs]
    return Plan(
        name=protocol.name,
        directory=directory,
        targets=dict(targets),
        demands=demands,
        there=done.realisations,
        core_seconds=each,
        core_seconds_done=done.seconds(),
        cheapest=done.option(cheapest),
        equal=done.option(equal),
        cores=n_cores(),
        notes=(
            *notes,
            "the cheapest numbers trust the power law between the sizes; that it holds at each of them, equal numbers show better",
        ),
    )


class _Done:
    """How many realisations have each stage done, and what options cost beyond that."""

    def __init__(self, protocol: Protocol, sizes: Sequence[int], own: Sequence[Realisation], costs: Costs) -> None:
        self.sizes = sizes
        self.costs = costs
        self.stages = protocol.stages
        self.preparations = list(protocol.ensemble.preparations)
        self.begun = dict.fromkeys(sizes, 0)
        self.realisations = {(size, name): 0 for size in sizes for name in self.preparations}
        self.by_stage = {(stage.kind, *key): 0 for stage in self.stages for key in self.realisations}
        for realisation in own:
            key = (realisation.n_particles, str(realisation.statepoint["preparation"]))
            states = realisation.stage_states(self.stages)
            for stage, state in zip(self.stages, states, strict=True):
                self.by_stage[stage.kind, *key] += state == "done"
            self.realisations[key] += set(states) == {"done"}
            if "done" in states:
                # A protocol that asks for n of them means the first n: what is done must stay among those.
                self.begun[key[0]] = max(self.begun[key[0]], int(realisation.statepoint["realisation"]) + 1)

    def option(self, numbers: Sequence[np.ndarray]) -> Option:
        """The option with these ``numbers``, and those at the lower and upper end of what it may take ((S,) arrays)."""
        middle, low, high = (dict(zip(self.sizes, number_s.tolist(), strict=True)) for number_s in numbers)
        missing = {n: sum(max(middle[n] - self.realisations[n, name], 0) for name in self.preparations) for n in self.sizes}
        known = [seconds for each in (middle, low, high) if (seconds := self.seconds(each)) is not None]
        return Option(middle, low, high, missing, (known[0], known[1], known[2]) if len(known) == 3 else None)

    def seconds(self, wanted: Mapping[int, int] | None = None) -> float | None:
        """Time of what is missing of so many realisations by N, or of what is done [s]; None where that of a stage is unknown.

        Where no record is there of what something took, it took what others did.
        """
        seconds = 0.0
        for n, name in self.realisations:
            done = [(stage, self.by_stage[stage.kind, n, name]) for stage in self.stages]
            missing = [(stage, max(wanted[n] - number, 0)) for stage, number in done] if wanted else done
            total = self.costs.total(missing, name, n)
            if total is None:
                return None
            seconds += total[0]
        return seconds


def _belonging(protocol: Protocol, directory: Path) -> tuple[list[Gathered], int]:
    """The realisations in ``directory`` that the protocol would have, were its numbers large enough, and the number of others."""
    wanted = {(point["n_particles"], point["preparation"]): _kind_of(point) for point in protocol.statepoints()}
    found = realisations(directory)
    own = [one for one in found if _kind_of(one.statepoint) == wanted.get((one.key[1], one.key[0]))]
    return own, len(found) - len(own)


def _kind_of(statepoint: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in statepoint.items() if name != "realisation"}


def _analysis(protocol: Protocol, found: Sequence[Gathered]) -> Analysis:
    """The analysis of the report, of these realisations."""
    with TemporaryDirectory() as folder:
        tables, _ = collect(found, Path(folder), {})
    settings = Settings.from_protocol(protocol.model_dump(mode="json"))
    return analyse(
        tables,
        replace(settings, confidence=CONFIDENCE),
        preparations=list(protocol.ensemble.preparations),
        density=protocol.model.density,
    )


def _demands(
    protocol: Protocol, targets: Mapping[str, float], own: Sequence[Realisation], analysis: Analysis, notes: list[str]
) -> Iterator[Demand]:
    """The demands; what hinders one goes to ``notes``."""
    for name, target in targets.items():
        index, stage = _stage_writing(protocol, _PRODUCTS[name])
        # What is estimated of the paper's detector rests on the same realisations and is no target.
        minima = analysis.minima.filter(
            pl.col("quantity") == _METHODS[name],
            pl.col("n_particles").is_in(protocol.ensemble.n_particles),
            pl.col("detector").ne_missing(AS_THRESHOLD),
        )
        for preparation in protocol.ensemble.preparations:
            states = [
                realisation.stage_states(protocol.stages)
                for realisation in own
                if realisation.statepoint["preparation"] == preparation
            ]
            n_done = sum(each[index] == "done" for each in states)
            n_ended = sum(each[index] == "done" or "failed" in each for each in states)
            if not n_done:
                notes.append(f"no stage '{stage.kind}' of {preparation} has ended, so that nothing is known for {name}")
                yield Demand(name, target, preparation, None, None, assumed_scatter(name))
            for strain in analysis.settings.strains if n_done else ():
                here = minima.filter((pl.col("preparation") == preparation) & (pl.col("strain") == strain))
                estimates = {
                    e.detector: e for e in analysis.find(method=_METHODS[name], preparation=preparation, strain=strain)
                }
                if here.is_empty():
                    reasons = "; ".join(str(e.refusal) for e in estimates.values())
                    notes.append(f"{name} of {preparation} at strain {strain:g} is left out: {reasons}")
                for (detector,), rows in here.sort("detector", "n_particles").group_by("detector", maintain_order=True):
                    demand = _demand(name, target, estimates.get(detector), rows, n_ended)
                    notes += _cautions(demand, rows)
                    yield demand


def _demand(name: str, target: float, estimate: Estimate | None, minima: pl.DataFrame, n_ended: int) -> Demand:
    """The demand of one ensemble from its rows of the table of minima."""
    fit, exponent = (None, None) if estimate is None else (estimate.fit, estimate.exponent)
    scatter = measured_scatter(
        name,
        minima["n_particles"],
        minima["n_realisations"],
        minima["mean"],
        minima["standard_error"].fill_null(np.nan),
        fit.slope if isinstance(fit, FiniteSizeScaling) else None,
    )
    return Demand(
        quantity=name,
        target=target,
        preparation=minima["preparation"][0],
        strain=minima["strain"][0],
        detector=minima["detector"][0],
        scatter=scatter,
        share=min(1.0, int(minima["n_realisations"].sum()) / n_ended),
        half_width=exponent.half_width if exponent is not None and np.isfinite(exponent.half_width) else None,
    )


def _cautions(demand: Demand, minima: pl.DataFrame) -> Iterator[str]:
    """What more realisations do not cure."""
    cut = minima.filter(
        (pl.col("n_realisations") >= MIN_REALISATIONS) & (pl.col("n_censored") > MAX_CENSORED * pl.col("n_realisations"))
    )
    if not cut.is_empty():
        where = ", ".join(
            f"{c} of {n} at N = {size}" for size, n, c in cut.select("n_particles", "n_realisations", "n_censored").iter_rows()
        )
        yield (
            f"{demand.label}: no minimum within what was looked at in {where}; beyond {100 * MAX_CENSORED:g} % the exponent is "
            "withheld, however many realisations there are. Shear further, or ask for more modes"
        )
    if demand.share < 0.9:
        yield f"{demand.label}: {100 * demand.share:.0f} % of the realisations that ended give a minimum; more are planned for that"


def _strangers(number: int, directory: Path) -> str:
    return (
        f"{number} realisations in {directory} do not count, for their model, engine, stages, seed, size or preparation is not "
        "that of the protocol"
    )


def _assumptions(demands: Sequence[Demand]) -> Iterator[str]:
    """What the demands take from the theory."""
    for name in dict.fromkeys(demand.quantity for demand in demands):
        scatters = [demand.scatter for demand in demands if demand.quantity == name]
        if any(scatter.slope_error is None for scatter in scatters):
            yield (
                f"values and sd/mean of {name} marked as assumed, for which too little has run, are the theory's, those of a "
                f"Weibull distribution of shape {SHAPES[name]:g}; the ranges know nothing of their error. Plan again later"
            )


def _spectra(analysis: Analysis, target: float, core_seconds: Mapping[tuple[int, str], float | None]) -> Iterator[str]:
    """What alpha takes from the spectrum of the size where it is cheapest, at the strain where it takes most."""
    worst: dict[str, tuple[float, str]] = {}
    for (preparation, strain), fits in _spectrum_fits(analysis).items():
        options = []
        for size, fit in fits.items():
            counts = fit.exponent.n_realisations
            n_so_far = sum(counts.values()) if isinstance(counts, dict) else counts
            modes = needed_modes(fit.exponent.value, target)
            number = modes * n_so_far / fit.n_modes
            cost = core_seconds.get((size, preparation))
            text = (
                f"alpha of {preparation} from a spectrum alone takes about {modes:.0f} modes in the window: {number:.0f} realisations "
                f"of N = {size}{'' if cost is None else f', {duration(number * cost)} of core time'}, at strain {strain:g}, where it is "
                f"{fit.exponent.value:.2f} so far"
            )
            options.append((number * (size**Stage.cost_power if cost is None else cost), text))
        worst[preparation] = max(min(options), worst.get(preparation, (0.0, "")))
    yield from (text for _, text in worst.values())


def _spectrum_fits(analysis: Analysis) -> dict[tuple[str, float], dict[int, SpectrumFit]]:
    """The fits to spectra that hold enough modes to plan from, by preparation, strain and size."""
    fits: dict[tuple[str, float], dict[int, SpectrumFit]] = {}
    for e in analysis.find(method="spectrum"):
        if isinstance(e.fit, SpectrumFit) and e.n_particles is not None and e.fit.n_modes >= MIN_REALISATIONS:
            fits.setdefault((e.preparation, e.strain), {})[e.n_particles] = e.fit
    return fits


def _extrapolations(protocol: Protocol, costs: Costs, sizes: Sequence[int], preparations: Sequence[str]) -> Iterator[str]:
    """Which costs follow a power law instead of a measurement."""
    for name in preparations:
        laws: dict[tuple[str, str], list[str]] = {}
        for stage in protocol.stages:
            known = costs.sizes(stage.kind, name)
            others = ", ".join(str(size) for size in sizes if size not in known)
            if known and others:
                power, error = costs.power(stage, name)
                law = f"{stage.kind} N^{power:.2f}+-{error:.2f}"
                laws.setdefault((others, ", ".join(map(str, known))), []).append(law)
            elif others and costs.any_known:
                yield f"the cost of {stage.kind} of {name} is unknown, as none has ended"
        for (others, known_sizes), powers in laws.items():
            yield f"costs of {name} at N = {others} follow power laws from N = {known_sizes}: {', '.join(powers)}"


def _assert_plannable(protocol: Protocol, sizes: Sequence[int], targets: Mapping[str, float]) -> None:
    if not targets:
        raise InputError("no target; expected at least one, e.g. --target-error theta=0.05.")
    for name in targets:
        if not any(_PRODUCTS[name] in stage.products() for stage in protocol.stages):
            kinds = ", ".join(stage.kind for stage in protocol.stages)
            raise InputError(
                f"protocol '{protocol.name}' has no stage that writes {_PRODUCTS[name]} (its stages: {kinds}); expected one, as {name} "
                f"comes from there. Add a stage of kind '{_KINDS[name]}', or leave out the target."
            )
    if len(sizes) < MIN_SIZES or sizes[-1] < MIN_SIZE_RATIO * sizes[0]:
        raise InputError(
            f"protocol '{protocol.name}' has {len(sizes)} system size{'s' * (len(sizes) > 1)} (N = {', '.join(map(str, sizes))}); "
            f"expected at least {MIN_SIZES} over a factor {MIN_SIZE_RATIO:g}, without which the exponent is withheld however many "
            "realisations there are. Add sizes to ensemble.n_particles."
        )


def _unreachable(demands: Sequence[Demand], most: float) -> InputError:
    worst = max(demands, key=lambda demand: demand.leverage)
    reached = worst.scatter.half_width(most * worst.share)
    return InputError(
        f"target {worst.quantity}={worst.target:g}: {MAX_REALISATIONS} realisations of each size, the most that a protocol takes, give "
        f"{worst.label} to +-{reached:.2g}; expected a target beyond that. Ask for less, or add sizes to ensemble.n_particles: "
        "a wider range tells more than numbers."
    )


def _stage_writing(protocol: Protocol, product: str) -> tuple[int, Stage]:
    return next((index, stage) for index, stage in enumerate(protocol.stages) if product in stage.products())


def _keyed(numbers: Mapping[int, int]) -> dict[str, int]:
    return {str(size): number for size, number in numbers.items()}
