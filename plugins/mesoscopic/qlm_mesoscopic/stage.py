"""The stage ``mesoscopic`` of qlm_hoomd's protocols: the model in place of a glass, N blocks in place of N particles.

It reads nothing of the glass. Of the protocol it uses the sizes (N blocks, even), the seed, the realisations, and the
preparations: a ``rapid`` quench starts from stresses of the standard deviation ``spread_rapid``, many of them unstable, a
``slow`` one from ``spread_slow``. Only the loading remembers that; steady states do not.
"""

# Array names carry their axes: n blocks, s snapshots, t steps of the loading.

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import polars as pl
from pydantic import AfterValidator, BaseModel, Field

from qlm_hoomd.errors import QlmError
from qlm_hoomd.model import GlassModel, Preparation
from qlm_hoomd.stages import Stage, StageContext
from qlm_mesoscopic import theory
from qlm_mesoscopic.block import Floats, Replacement, UniformInvariants
from qlm_mesoscopic.errors import ModelError, NotEnoughDataError
from qlm_mesoscopic.kinds import ModeBlocks
from qlm_mesoscopic.meanfield import MeanField, Run
from qlm_mesoscopic.observables import Exponent, alpha_from_curvatures, theta_from_distances
from qlm_mesoscopic.witness import FEWEST, watch

STEADY, LOADING, MODES, SPECTRA = (
    "mesoscopic_steady.parquet",
    "mesoscopic_loading.parquet",
    "mesoscopic_modes.parquet",
    "mesoscopic_spectra.parquet",
)
"""Products: steady states of threshold blocks, loading after the quench, modes in the plane, their theta and alpha."""

SOFT_WINDOW = (1e-5, 1e-3)
"""Where witnesses are watched, as lambda over lambda_min."""

_STEPS = 24
# In failures per block of 500 blocks; how many witnesses take twice the time of a few.
_WORK_OF_WITNESSES, _WITNESSES_FOR_TWICE = 15.0, 20_000


def _ascending(values: tuple[float, ...]) -> tuple[float, ...]:
    if any(b <= a for a, b in pairwise(values)):
        raise ValueError(f"{list(values)}; expected amplitudes in ascending order, each once")
    return values


Amplitude = Annotated[float, Field(gt=0, le=10)]
Amplitudes = Annotated[tuple[Amplitude, ...], AfterValidator(_ascending)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class MesoscopicStage(Stage):
    """Sample the mean field: steady states, loading after a quench, and modes in the (lambda, kappa) plane."""

    cost_power: ClassVar[float] = 0.5
    """No power is right: witnesses take the same time at any N, the failures, in proportion to N, some 60 us and 4 ns N each.
    From N = 100, where forecasts begin, to 10 000 it is 0.3; beyond 20 000 it grows to 2."""
    kind: Literal["mesoscopic"] = "mesoscopic"
    mu: Annotated[float, Field(ge=1, le=2)] = Field(default=1.0, description="index of the kicks' distribution; 1 is Eshelby's")
    amplitudes: Amplitudes = Field(
        default=(0.02, 0.06, 0.1, 0.14, 0.18, 0.22, 0.26, 0.3), description="A of the steady states of threshold blocks"
    )
    activity: Positive = Field(default=2.0, description="failures per block that a steady state records")
    skip: Positive = Field(default=1.5, description="failures per block before that")
    loading_amplitude: Amplitude = Field(default=0.25, description="A of the loading after the quench")
    loading_strain: Positive = Field(default=1.0, description="strain to load to; the modulus is 1")
    spread_rapid: Positive = Field(default=1.0, description="standard deviation of the stress before a rapid quench")
    spread_slow: Positive = Field(default=0.35, description="standard deviation of the stress before a slow quench")
    mode_amplitudes: Amplitudes = Field(default=(0.1, 0.2, 0.4), description="A of the steady states of modes")
    mode_activity: Positive = Field(default=0.5, description="failures per block that a steady state of modes records")
    mode_window: tuple[Positive, Positive] = Field(
        default=(0.03, 0.2),
        description="lambda between which alpha is fitted; N blocks, which a failure unloads by 1 / N, show nothing below "
        "(2 / N)^(1/2)",
    )
    witnesses: Annotated[int, Field(ge=0)] = Field(
        default=100_000,
        description="modes watched at the noise and drift of each steady state of modes, for alpha at 1e-5 to 1e-3 of "
        "lambda_min; with mu above 1 there are none",
    )
    lambda_min: Positive = Field(default=1.0, description="lambda at which the softest mode is replaced")
    phi: tuple[float, float] = Field(default=(-1.0, 0.6), description="P_0 is uniform between these values of phi")

    def check(self, model: GlassModel, n_particles: list[int]) -> None:
        """Refuse sizes and amplitudes that cannot work.

        Raises:
            ValueError: for odd or small N, a runaway amplitude, a wrong P_0 or window.
        """
        if any(size % 2 or size < 100 for size in n_particles):
            raise ValueError(f"n_particles {n_particles}; a mesoscopic system of N blocks needs N even and at least 100")
        critical = theory.critical_noise(self.mu)
        largest = max((*self.amplitudes, self.loading_amplitude))
        if self.mu < 2.0 and largest >= critical:
            raise ValueError(
                f"amplitude {largest:g} of threshold blocks with mu = {self.mu:g}; expected less than {critical:.4g}, where "
                "avalanches run away"
            )
        if not self.mode_window[0] < self.mode_window[1]:
            raise ValueError(f"mode_window {list(self.mode_window)}; expected the lower end first")
        if 0 < self.witnesses < FEWEST:
            raise ValueError(f"{self.witnesses} witnesses; expected 0 or at least {FEWEST}")
        self._replacement()

    def work(self, preparation: BaseModel) -> float:
        """Failures per block, some three for a loading by 1; witnesses by what they take beside them at 500 blocks."""
        threshold = (self.skip + self.activity) * len(self.amplitudes) + 3.0 * self.loading_strain
        watched = _WORK_OF_WITNESSES * (1.0 + self.witnesses / _WITNESSES_FOR_TWICE) if self.witnesses else 0.0
        return threshold + (2.0 * self.mode_activity + watched) * len(self.mode_amplitudes)

    def shortened(self, strain: float) -> Self:
        """Fewer systems, watched for less: a part of everything, as large as that strain is of the loading."""
        part = strain / self.loading_strain
        if part >= 1.0:
            return self
        return self.model_copy(
            update={name: part * getattr(self, name) for name in ("activity", "skip", "loading_strain", "mode_activity")}
            | {
                name: getattr(self, name)[: math.ceil(part * len(getattr(self, name)))]
                for name in ("amplitudes", "mode_amplitudes")
            }
            | {"witnesses": max(FEWEST, round(part * self.witnesses)) if self.witnesses else 0}
        )

    def requires(self) -> tuple[str, ...]:
        """Nothing: the model needs no glass."""
        return ()

    def products(self) -> tuple[str, ...]:
        """Four tables."""
        return (STEADY, LOADING, MODES, SPECTRA)

    def run(self, context: StageContext) -> None:
        """Sample the model.

        Who asks it to stop waits for one failure, or for one step of witnesses; systems that are finished are kept for the next
        attempt.

        Raises:
            QlmError: if an avalanche runs away.
        """
        rng = context.rng(self.kind)

        def seeds(n: int) -> list[int]:
            return [int(rng.integers(2**63)) for _ in range(n)]

        steady_seeds, loading_seed = seeds(len(self.amplitudes)), *seeds(1)
        mode_seeds = [seeds(2) for _ in self.mode_amplitudes]
        done: dict[str, list[Any]] = context.checkpoint.load() or {"steady": [], "loading": [], "modes": [], "spectra": []}

        def ask() -> None:
            context.checkpoint.waypoint(lambda: done)

        system = partial(self._system, context.n_particles, ask)
        try:
            for amplitude, seed in list(zip(self.amplitudes, steady_seeds, strict=True))[len(done["steady"]) :]:
                context.progress(f"steady state at A = {amplitude:g}")
                run = system(amplitude, seed).steady_state(self.activity, skip=self.skip)
                done["steady"].append(_row(run, theta=_exponent(theta_from_distances, run.snapshots)))
            if not done["loading"]:
                context.progress("loading")
                preparation = context.preparation
                assert isinstance(preparation, Preparation)
                spread = self.spread_rapid if preparation.quench == "rapid" else self.spread_slow
                done["loading"] = self._loading(system(self.loading_amplitude, loading_seed), spread)
            for amplitude, (seed, watched) in list(zip(self.mode_amplitudes, mode_seeds, strict=True))[len(done["spectra"]) :]:
                context.progress(f"modes at A = {amplitude:g}")
                modes, row = self._modes(system(amplitude, seed, ModeBlocks(self._replacement())), watched, ask)
                done["modes"].append(modes)
                done["spectra"].append(row)
        except ModelError as error:
            raise QlmError(str(error)) from error
        for name, rows in ((STEADY, done["steady"]), (LOADING, done["loading"]), (SPECTRA, done["spectra"])):
            context.write_table(name, pl.DataFrame(rows))
        columns = ("amplitude", "lam", "kappa", "phi")
        context.write_table(
            MODES, pl.DataFrame({name: np.concatenate([[], *(modes[name] for modes in done["modes"])]) for name in columns})
        )

    def _system(
        self, size: int, ask: Callable[[], None], amplitude: float, seed: int, blocks: ModeBlocks | None = None
    ) -> MeanField:
        # In a steady state at A = 0.3 the largest avalanche has 15 failures per block of 100, 9 of 200, 3 of 1000, and is no
        # runaway.
        longest = max(10.0, 1e4 / size)
        return MeanField(size, amplitude, self.mu, blocks=blocks, largest_avalanche=longest, seed=seed, callback=ask)

    def _loading(self, glass: MeanField, spread: float) -> list[dict[str, Any]]:
        """Rows of the loading that follows a quench from this spread of the stress."""
        glass.quench(spread)
        strain_t = np.geomspace(0.01 * self.loading_strain, self.loading_strain, _STEPS)
        rows, activity = [], 0.0
        for step in np.diff(strain_t, prepend=0.0):
            run = glass.load(float(step))
            activity += run.activity
            rows.append(
                {
                    "strain": glass.strain,
                    "stress": glass.stress,
                    "activity": activity,
                    "failures": run.failures,
                    "drift": run.drift if run.failures else None,
                    "avalanches": len(run.size_a),
                }
            )
        return rows

    def _modes(self, system: MeanField, seed: int, ask: Callable[[], None]) -> tuple[dict[str, Floats], dict[str, Any]]:
        """A steady state of modes: the modes of its last moment by column, and the row of its spectrum."""
        run = system.steady_state(self.mode_activity, skip=self.mode_activity, every=min(0.02, self.mode_activity))
        lam_sn = []
        for snapshot in run.snapshots:
            ask()
            lam_sn.append(snapshot.lam_n)
        alpha = _exponent(alpha_from_curvatures, lam_sn, window=self.mode_window)
        row = _row(run, alpha=alpha, soft_alpha=self._soft_alpha(run, seed, ask))
        last, lam_n = run.snapshots[-1], lam_sn[-1]
        # The snapshot may be amid an avalanche: those that wait to fail have no minimum, others wait to be replaced.
        settled_n = lam_n <= self.lambda_min
        columns_n = {"amplitude": np.full(lam_n.size, run.amplitude), "lam": lam_n, "kappa": last.kappa_n, "phi": last.phi_n}
        return {name: column_n[settled_n] for name, column_n in columns_n.items()}, row

    def _soft_alpha(self, run: Run, seed: int, ask: Callable[[], None]) -> tuple[float | None, float | None]:
        """alpha at soft modes by witnesses, which know mu = 1 and a P_0 on both sides of 0."""
        if self.mu > 1.0 or not self.witnesses or not (run.drift > 0.0 and self.phi[0] < 0.0 < self.phi[1]):
            return None, None
        seen = watch(
            run.amplitude,
            run.drift,
            self.witnesses,
            replacement=self._replacement(),
            window=(SOFT_WINDOW[0] * self.lambda_min, SOFT_WINDOW[1] * self.lambda_min),
            seed=seed,
            callback=ask,
        )
        return _exponent(lambda sightings: sightings.alpha(), seen)

    def _replacement(self) -> Replacement:
        return Replacement(lambda_min=self.lambda_min, p0=UniformInvariants(*self.phi))


def _exponent(fit: Any, series: Any, **settings: Any) -> tuple[float | None, float | None]:
    """The exponent and the half width of its 95 % interval; None for both where the data do not carry it."""
    try:
        found: Exponent = fit(series, **settings)
    except NotEnoughDataError:
        return None, None
    return found.value, found.error


def _row(run: Run, **exponents: tuple[float | None, float | None]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "amplitude": run.amplitude,
        "drift": run.drift,
        "noise_over_drift": run.noise_over_drift,
        "failures": run.failures,
        "backward": run.backward,
        "swaps": run.swaps,
        "avalanches": len(run.size_a),
    }
    for name, (value, error) in exponents.items():
        row |= {name: value, f"{name}_error": error}
    return row
