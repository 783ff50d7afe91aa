"""What a plan says: demands of exponents, options with their cost, and the tables of both.

Array suffixes: ``_s`` system sizes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qlm_hoomd.base.display import Displayed
from qlm_hoomd.ensemble.progress import duration
from qlm_hoomd.statistics.planning import (
    CONFIDENCE,
    Scatter,
)
from qlm_hoomd.statistics.samples import leverage

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]


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
            "realisations": keyed(self.numbers),
            "low": keyed(self.low),
            "high": keyed(self.high),
            "missing": keyed(self.missing),
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


def keyed(numbers: Mapping[int, int]) -> dict[str, int]:
    """Numbers by size with the sizes as text, as JSON wants its keys."""
    return {str(size): number for size, number in numbers.items()}
