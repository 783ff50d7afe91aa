"""The small interface behind which dynamics and relaxation happen."""

# Array names carry their axes: n particles, c Cartesian components.

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, get_args

from pydantic import ConfigDict

from qlm_hoomd.base.display import Displayed
from qlm_hoomd.base.errors import InputError
from qlm_hoomd.base.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from qlm_hoomd.base.checkpoint import Waypoint
    from qlm_hoomd.glass import Glass
    from qlm_hoomd.minimize.report import MinimizeReport
    from qlm_hoomd.model import GlassModel
    from qlm_hoomd.potentials import PairPotential


AfterEvent: TypeAlias = Literal["descent", "fire"]


@dataclass(frozen=True, slots=True, repr=False)
class Observables(Displayed):
    """What an engine measures of a glass at rest.

    Args:
        energy: potential energy per particle [energy].
        stress_xy: dU/dgamma / V, positive when it resists positive strain [energy / length^3].
        pressure: virial pressure [energy / length^3].
        max_force: largest force on one particle [energy / length].
    """

    energy: float
    stress_xy: float
    pressure: float
    max_force: float


@dataclass(frozen=True, slots=True, repr=False)
class DynamicsReport(Displayed):
    """Averages over a run of molecular dynamics.

    Args:
        n_steps: time steps made.
        temperature: mean kinetic temperature over the second half of the run [energy / k_B].
        energy: mean potential energy per particle over the second half [energy].
        pressure: mean total pressure (virial and kinetic) over the second half [energy / length^3].
    """

    n_steps: int
    temperature: float
    energy: float
    pressure: float


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class DynamicsState(Displayed):
    """Where a run of molecular dynamics is: a plain value from which it goes on.

    Args:
        step: time steps made.
        positions: ((N, 3) ndarray) positions [length], in any periodic image.
        velocities: ((N, 3) ndarray) velocities [length / t_c].
        sums: sums of the averages so far, of the engine's own choice.
        rng: state of the random generator, as ``Generator.bit_generator.state`` gives it.
        memory: what else the engine needs to go on, of its own choice; plain values.
    """

    step: int
    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]
    sums: tuple[float, ...]
    rng: dict[str, Any]
    memory: Any = None

    def _headline(self) -> str:
        return f"step {self.step}, {len(self.positions)} particles"


class Engine(ABC):
    """Relaxes and moves a :class:`~qlm_hoomd.glass.Glass`. Nothing above needs to know which engine it is.

    Args:
        potential: the pair potential; one object for dynamics and analysis.
    """

    name: ClassVar[str]

    def __init__(self, potential: PairPotential) -> None:
        self.potential = potential

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Name, version and settings, as they go into the provenance of every product."""

    @abstractmethod
    def measure(self, glass: Glass) -> Observables:
        """Energy, stress, pressure and largest force of ``glass`` as it stands."""

    @abstractmethod
    def relax(
        self,
        glass: Glass,
        *,
        tolerance: float = 1e-10,
        guess: NDArray[np.float64] | None = None,
        after_event: AfterEvent | None = "descent",
    ) -> tuple[Glass, MinimizeReport]:
        """The minimum in the basin of ``glass``; where that basin is lost, the one into which ``glass`` falls.

        A fall starts at ``glass`` itself, so that a guess never decides where an instability leads. Along the overdamped path
        it is :meth:`descend`. The report says whether the state fell (``left_basin``) and counts the safeguards that fired on
        the way (``fallbacks``).

        Args:
            glass: where to start.
            tolerance: largest force at the end [energy / length].
            guess: ((N, 3) ndarray) positions believed close to the minimum [length]; a shortcut inside the basin that an
                engine may take or leave.
            after_event: how the state falls where the basin is lost: along the overdamped path, by FIRE, or not at all.

        Raises:
            BasinLost: if ``after_event`` is None and the basin is lost; nothing has fallen then.
            ConvergenceError: if the tolerance is not reached.
            InputError: if ``after_event`` is none of these.
        """

    @abstractmethod
    def descend(self, glass: Glass, *, tolerance: float = 1e-10) -> tuple[Glass, MinimizeReport]:
        """The minimum in which the fully overdamped dynamics dr/dt = F started at ``glass`` ends (the paper, App. E).

        The path decides which minimum that is, so it means the same on every engine: the path of small steps, to a stated
        error, until a minimiser that stays in its basin can finish. :func:`qlm_hoomd.minimize.descent` is such a path for any
        potential.

        Raises:
            ConvergenceError: if the tolerance is not reached.
        """

    @abstractmethod
    def run(
        self,
        glass: Glass,
        *,
        duration: float,
        temperature: float,
        final_temperature: float | None = None,
        rng: np.random.Generator,
        resume: DynamicsState | None = None,
        waypoint: Waypoint | None = None,
    ) -> tuple[Glass, DynamicsReport]:
        """Thermostatted dynamics for ``duration`` [t_c] at ``temperature``, or on a linear ramp to ``final_temperature``.

        Velocities are drawn from the Maxwell distribution at the start; ``rng`` is the only source of randomness.

        Args:
            glass: where to start.
            duration: length of the whole run [t_c].
            temperature: at its beginning [energy / k_B].
            final_temperature: at its end; None for the same.
            rng: source of velocities and noise.
            resume: a state of this very run from which to go on; the generator is put back to where it was then.
            waypoint: is told every few steps of the state, from which the run can go on.
        """

    @property
    def memory(self) -> Any:
        """What earlier calls have left in this engine that may touch the last digits of later ones, as plain values."""
        return None

    def recall(self, memory: Any) -> None:
        """Go on as the engine that had this :attr:`memory`."""
        del memory


def check_after_event(after_event: AfterEvent | None) -> None:
    """Refuse what :meth:`Engine.relax` does not know.

    Raises:
        InputError: if ``after_event`` is neither None nor a way to fall.
    """
    if after_event is not None and after_event not in get_args(AfterEvent):
        expected = " or ".join(repr(name) for name in get_args(AfterEvent))
        raise InputError(f"after_event = {after_event!r}; expected {expected}, or None for no fall at all.")


def checked_ramp(duration: float, temperature: float, final_temperature: float | None) -> float:
    """The temperature at the end of :meth:`Engine.run`.

    Raises:
        InputError: if the duration or a temperature is not a positive number.
    """
    end = temperature if final_temperature is None else final_temperature
    for name, value in (("duration", duration), ("temperature", temperature), ("final_temperature", end)):
        if not (math.isfinite(value) and value > 0.0):
            raise InputError(f"{name} = {value}; expected a positive number.")
    return end


class EngineSettings(Settings):
    """Base of the ``engine`` section of a protocol. Subclasses have a literal ``kind`` and build the engine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @property
    def wants_gpu(self) -> bool:
        """Whether each realisation at work needs a GPU."""
        return False

    @abstractmethod
    def build(self, model: GlassModel) -> Engine:
        """The engine for this model.

        Raises:
            InputError: if what the engine needs is not installed or not at hand.
        """
