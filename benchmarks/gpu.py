"""HOOMD-blue on a GPU: its tests, its answers against those of the CPU, its speed. `make gpu` runs it.

Writes the rows between the marks in RESULTS.md. Without a card it says so in one line and does nothing.

Usage: python benchmarks/gpu.py [N ...] [--turns 5] [--cache DIR] [--device gpu] [--results FILE] [--skip-tests]
"""

# Array names carry their axes: n particles, c Cartesian components.

from __future__ import annotations

import math
import re
import sys
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from _common import LAW, MODEL, command_line, ended, glass_of, introduce, note
from qlm_quasistatic import Stepper
from qlm_quasistatic.strains import StrainGrid
from qlm_rewind import FoldDetector

from qlm_hoomd.engines.cpu import CPUEngine
from qlm_hoomd.engines.hoomd import HOOMDEngineSettings
from qlm_hoomd.errors import InputError
from qlm_hoomd.glass import Glass

with suppress(InputError):  # without HOOMD-blue; why_no_card says so
    from hoomd_pair import STRAIN, TOLERANCE, hoomd_fire, ours_of

    from qlm_hoomd.pair import Backend

_ROOT = Path(__file__).parents[1]
_BEGIN, _END = "<!-- written by make gpu -->", "<!-- end of what make gpu writes -->"
# Long enough that a start of the run does not count, in steps.
_STEPS = 2000
_GRID = StrainGrid(increment=1e-4, largest=0.1)
# A fold is located to 1e-10 where sums are ordered; on a card each evaluation orders them anew.
_FOLD_TOLERANCE = 1e-8
_LARGEST_FOLD = 4000


class Row(NamedTuple):
    """One size: steps per second, largest relative deviations from the CPU engine, that of the first instability too."""

    n_particles: int
    backend: Backend
    steps_per_s: float
    force: float
    energy: float
    strain: float

    def __str__(self) -> str:
        fold = f"{self.strain:.1e}" if math.isfinite(self.strain) else "not looked for"
        speed = f"{float(f'{self.steps_per_s:.3g}'):g}"
        return f"| {self.n_particles} | {self.backend} | {speed} | {self.force:.1e} | {self.energy:.1e} | {fold} |"


def why_no_card() -> str:
    """Why HOOMD-blue cannot use a GPU here; empty if it can."""
    try:
        import hoomd
    except ImportError as error:
        return f"HOOMD-blue cannot be imported: {error}"
    if not hoomd.version.gpu_enabled:
        return f"HOOMD-blue {hoomd.version.version} was built for the CPU alone"
    if hoomd.device.GPU.is_available():
        return ""
    return "; ".join(hoomd.device.GPU.get_unavailable_device_reasons()) or "HOOMD-blue finds none"


def _card(device: str) -> tuple[Any, str]:
    import hoomd

    chosen = hoomd.device.GPU() if device == "gpu" else hoomd.device.CPU()
    return chosen, str(chosen.device)


def _row(glass: Glass, backend: Backend, device: str, turns: int) -> Row:
    """Forces and energy of the sheared glass, steps of FIRE by the clock on the wall, and the first instability."""
    sheared = glass.sheared(STRAIN)
    _, answer = ours_of(sheared)
    simulation, pair = hoomd_fire(sheared, backend, _card(device)[0])
    force = answer.deviation(pair.forces)
    energy = abs(pair.energy / (CPUEngine(LAW).measure(sheared).energy * glass.n_particles) - 1.0)
    seconds = []
    for _ in range(turns):
        start = time.perf_counter()
        simulation.run(_STEPS)
        # What a card has been told to do is done when somebody reads the answer.
        simulation.state.get_snapshot()
        seconds.append(time.perf_counter() - start)
    strain = _fold_difference(glass, backend, device) if glass.n_particles <= _LARGEST_FOLD else math.nan
    return Row(glass.n_particles, backend, _STEPS / min(seconds), force, energy, strain)


def _fold_difference(glass: Glass, backend: Backend, device: str) -> float:
    """How far the first instability is from where the CPU engine finds it [strain]; both find one, or none."""
    found = []
    settings = HOOMDEngineSettings.model_validate({"device": device, "pair": backend})
    for engine in (CPUEngine(LAW), settings.build(MODEL)):
        stepper = Stepper(engine)
        _, fold = FoldDetector().locate_next(stepper, stepper.start(glass), _GRID)
        found.append(math.nan if fold is None else fold.strain_c)
    if math.isnan(found[0]) or math.isnan(found[1]):
        raise InputError(
            f"first instability at strain {found[0]} and {found[1]}, up to {_GRID.largest:g}; expected two. Use another N."
        )
    return abs(found[1] - found[0])


def written(text: str, rows: str) -> str:
    """The page with these lines between the marks.

    Raises:
        InputError: if the marks are not there.
    """
    pattern = re.compile(f"{re.escape(_BEGIN)}.*?{re.escape(_END)}", re.DOTALL)
    if not pattern.search(text):
        raise InputError(
            f"the page has no lines {_BEGIN} and {_END}; expected both, in this order. Put them where the rows belong."
        )
    return pattern.sub(lambda _: f"{_BEGIN}\n{rows}\n{_END}", text, count=1)


def main() -> bool:
    """Run the tests and the comparison, and write the rows; whether all of it agreed."""
    parser = command_line(__doc__, (2000, 16000, 64000), turns=5)
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu", help="cpu: the same comparison without a card")
    parser.add_argument(
        "--results", type=Path, default=Path(__file__).parent / "RESULTS.md", metavar="FILE", help="page to write"
    )
    parser.add_argument("--skip-tests", action="store_true", help="compare and measure only")
    options = parser.parse_args()
    reason = why_no_card() if options.device == "gpu" else ""
    if reason:
        print(f"no GPU here, nothing was run ({reason}).")
        return True
    introduce(("qlm_hoomd_ipl",))
    passed = options.skip_tests or _tests_pass(options.device)
    name = _card(options.device)[1]
    rows: list[Row] = []
    for n_particles in options.sizes:
        glass = glass_of(n_particles, options.cache)
        for backend in _backends():
            rows.append(_row(glass, backend, options.device, options.turns))
            note(str(rows[-1]))
    import hoomd

    head = (
        f"HOOMD-blue {hoomd.version.version} on {name}: steps of FIRE per second by the clock, and what differs from the CPU "
        "engine: forces and energy relative to the largest, strain of the first instability. Tests marked `hoomd` "
        f"{'were not run' if options.skip_tests else 'passed' if passed else 'FAILED'} on this device.\n\n| N | pair force | "
        "steps per second | forces | energy | first instability |\n|---|---|---|---|---|---|"
    )
    options.results.write_text(
        written(options.results.read_text(encoding="utf-8"), "\n".join((head, *map(str, rows)))), encoding="utf-8"
    )
    strayed = [
        row
        for row in rows
        if max(row.force, row.energy) > TOLERANCE[row.backend] or (row.backend != "table" and row.strain > _FOLD_TOLERANCE)
    ]
    for row in strayed:
        note(f"deviates from the CPU: {row}")
    return passed and not strayed


def _backends() -> tuple[Backend, ...]:
    """The exact ones that are here; without the component HOOMD-blue's own potentials take part alone."""
    return ("mie",) if find_spec("qlm_hoomd_ipl") is None else ("component", "mie")


def _tests_pass(device: str) -> bool:
    folders = [str(_ROOT / name) for name in ("tests", "plugins")]
    return pytest.main(["-q", "-m", "hoomd and not physics", f"--rootdir={_ROOT}", f"--hoomd-device={device}", *folders]) == 0


if __name__ == "__main__":
    sys.exit(ended(main))
