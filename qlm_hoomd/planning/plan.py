"""How many realisations a protocol needs for an exponent of a given error, from what has run so far, and what they cost.

Numbers are per size and preparation, as a protocol has them. Each exponent, preparation and strain of the analysis makes a
demand on them; one plan meets all, so that the largest decides.

Array suffixes: ``_s`` system sizes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from qlm_hoomd.base.errors import InputError
from qlm_hoomd.base.processes import n_cores
from qlm_hoomd.ensemble.costs import Costs
from qlm_hoomd.ensemble.progress import duration
from qlm_hoomd.ensemble.realisation import Realisation
from qlm_hoomd.planning.benchmark import benchmark
from qlm_hoomd.planning.result import Demand, Option, Plan
from qlm_hoomd.protocol import MAX_REALISATIONS, Protocol
from qlm_hoomd.protocol import Analysis as Settings
from qlm_hoomd.report.analysis import analyse
from qlm_hoomd.report.collect import gather, realisations
from qlm_hoomd.report.numbers import AS_THRESHOLD, Analysis, Estimate
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
    measured_scatter,
    needed_modes,
)
from qlm_hoomd.statistics.samples import leverage

"""Header and rows."""

_PRODUCTS = {"theta": "events.parquet", "alpha": "modes.parquet"}
_METHODS = {"theta": "gamma_min", "alpha": "omega_min"}


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
    own, strangers = _belonging(protocol, directory)
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
    analysis = _analysis(protocol, own)
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
            (
                "the cheapest numbers trust the power law between the sizes; that it holds at each of them, equal numbers show "
                "better"
            ),
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


def _belonging(protocol: Protocol, directory: Path) -> tuple[list[Realisation], int]:
    """The realisations in ``directory`` that the protocol would have, were its numbers large enough, and the number of others."""
    wanted = {(point["n_particles"], point["preparation"]): _kind_of(point) for point in protocol.statepoints()}
    found = realisations(directory)
    own = [one for one in found if _kind_of(one.statepoint) == wanted.get((one.key[1], one.key[0]))]
    return own, len(found) - len(own)


def _kind_of(statepoint: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in statepoint.items() if name != "realisation"}


def _analysis(protocol: Protocol, found: Sequence[Realisation]) -> Analysis:
    """The analysis of the report, of these realisations."""
    tables, _ = gather(found, [name for stage in protocol.stages for name in stage.tables()])
    settings = Settings.from_protocol(protocol.model_dump(mode="json"))
    return analyse(
        tables,
        settings.model_copy(update={"confidence": CONFIDENCE}),
        preparations=list(protocol.ensemble.preparations),
        density=protocol.model.density,
        dimensions=protocol.model.dimensions,
    )


def _demands(
    protocol: Protocol, targets: Mapping[str, float], own: Sequence[Realisation], analysis: Analysis, notes: list[str]
) -> Iterator[Demand]:
    """The demands; what hinders one goes to ``notes``."""
    for name, target in targets.items():
        index, stage = _stage_writing(protocol, _PRODUCTS[name])
        at_rest = analysis.settings.strains == (0.0,)  # a strained glass has one direction
        assumed = assumed_scatter(name, getattr(stage, "wanted_directions", ()) if name == "theta" and at_rest else ())
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
                yield Demand(name, target, preparation, None, None, assumed)
            for strain in analysis.settings.strains if n_done else ():
                here = minima.filter((pl.col("preparation") == preparation) & (pl.col("strain") == strain))
                estimates = {
                    e.detector: e for e in analysis.find(method=_METHODS[name], preparation=preparation, strain=strain)
                }
                if here.is_empty():
                    reasons = "; ".join(str(e.refusal) for e in estimates.values())
                    notes.append(f"{name} of {preparation} at strain {strain:g} is left out: {reasons}")
                for (detector,), rows in here.sort("detector", "n_particles").group_by("detector", maintain_order=True):
                    demand = _demand(name, target, assumed, estimates.get(detector), rows, n_ended)
                    notes += _cautions(demand, rows)
                    yield demand


def _demand(
    name: str, target: float, assumed: Scatter, estimate: Estimate | None, minima: pl.DataFrame, n_ended: int
) -> Demand:
    """The demand of one ensemble from its rows of the table of minima."""
    fit, exponent = (None, None) if estimate is None else (estimate.fit, estimate.exponent)
    scatter = measured_scatter(
        assumed,
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
                f"alpha of {preparation} from a spectrum alone takes about {modes:.0f} modes in the window: {number:.0f} "
                f"realisations of N = {size}{'' if cost is None else f', {duration(number * cost)} of core time'}, at "
                f"strain {strain:g}, where it is {fit.exponent.value:.2f} so far"
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
                f"protocol '{protocol.name}' has no stage that writes {_PRODUCTS[name]} (its stages: {kinds}); expected "
                f"one, as {name} comes from there. Add one (`qlm plugins` lists the stages), or leave out the target."
            )
    if len(sizes) < MIN_SIZES or sizes[-1] < MIN_SIZE_RATIO * sizes[0]:
        raise InputError(
            f"protocol '{protocol.name}' has {len(sizes)} system size{'s' * (len(sizes) > 1)} (N = "
            f"{', '.join(map(str, sizes))}); expected at least {MIN_SIZES} over a factor {MIN_SIZE_RATIO:g}, without which "
            "the exponent is withheld however many realisations there are. Add sizes to ensemble.n_particles."
        )


def _unreachable(demands: Sequence[Demand], most: float) -> InputError:
    worst = max(demands, key=lambda demand: demand.leverage)
    reached = worst.scatter.half_width(most * worst.share)
    return InputError(
        f"target {worst.quantity}={worst.target:g}: {MAX_REALISATIONS} realisations of each size, the most that a protocol "
        f"takes, give {worst.label} to +-{reached:.2g}; expected a target beyond that. Ask for less, or add sizes to "
        "ensemble.n_particles: a wider range tells more than numbers."
    )


def _stage_writing(protocol: Protocol, product: str) -> tuple[int, Stage]:
    return next((index, stage) for index, stage in enumerate(protocol.stages) if product in stage.products())
