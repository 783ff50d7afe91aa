"""The stage ``mesoscopic`` of qlm_hoomd's protocols: the model in place of a glass, N blocks in place of N particles.

It reads nothing of the glass. Of the protocol it uses the sizes (N blocks, even), the seed, the realisations, and the preparations: a
``rapid`` quench starts from stresses of the standard deviation ``spread_rapid``, many of them unstable, a ``slow`` one from
``spread_slow``. Only the loading remembers that; steady states do not.
"""

# Array names carry their axes: n blocks, s snapshots, t steps of the loading.

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import AfterValidator, Field

from qlm_hoomd.errors import QlmError
from qlm_hoomd.model import GlassModel, Preparation
from qlm_hoomd.stages import Stage, StageContext
from qlm_mesoscopic import theory
from qlm_mesoscopic.block import Replacement, UniformInvariants
from qlm_mesoscopic.errors import ModelError, NotEnoughDataError
from qlm_mesoscopic.meanfield import MeanField, ModeBlocks, Run
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
    """No power is right: witnesses take the same time at any N, the failures, in proportion to N, some 60 us and 4 ns N each. From
    N = 100, where forecasts begin, to 10 000 it is 0.3; beyond 20 000 it grows to 2."""
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
        description="lambda between which alpha is fitted; N blocks, which a failure unloads by 1 / N, show nothing below (2 / N)^(1/2)",
    )
    witnesses: Annotated[int, Field(ge=0)] = Field(
        default=100_000,
        description="modes watched at the noise and drift of each steady state of modes, for alpha at 1e-5 to 1e-3 of lambda_min; with mu above 1 there are none",
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
                f"amplitude {largest:g} of threshold blocks with mu = {self.mu:g}; expected less than {critical:.4g}, where avalanches run away"
            )
        if not self.mode_window[0] < self.mode_window[1]:
            raise ValueError(f"mode_window {list(self.mode_window)}; expected the lower end first")
        if 0 < self.witnesses < FEWEST:
            raise ValueError(f"{self.witnesses} witnesses; expected 0 or at least {FEWEST}")
        self._replacement()

    def requires(self) -> tuple[str, ...]:
        """Nothing: the model needs no glass."""
        return ()

    def products(self) -> tuple[str, ...]:
        """Four tables."""
        return (STEADY, LOADING, MODES, SPECTRA)

    def run(self, context: StageContext) -> None:
        """Sample the model.

        Raises:
            QlmError: if an avalanche runs away.
        """
        try:
            tables = self._tables(context)
        except ModelError as error:
            raise QlmError(str(error)) from error
        for name, table in tables.items():
            context.write_table(name, table)

    def _tables(self, context: StageContext) -> dict[str, pl.DataFrame]:
        size, rng = context.n_particles, context.rng(self.kind)

        def seed() -> int:
            return int(rng.integers(2**63))

        steady = []
        for amplitude in self.amplitudes:
            context.progress(f"steady state at A = {amplitude:g}")
            run = self._system(size, amplitude, seed()).steady_state(self.activity, skip=self.skip)
            steady.append(_row(run, theta=_exponent(theta_from_distances, run.snapshots)))
        context.progress("loading")
        preparation = context.preparation
        assert isinstance(preparation, Preparation)
        glass = self._system(size, self.loading_amplitude, seed())
        glass.quench(self.spread_rapid if preparation.quench == "rapid" else self.spread_slow)
        strain_t = np.geomspace(0.01 * self.loading_strain, self.loading_strain, _STEPS)
        loading, activity = [], 0.0
        for step in np.diff(strain_t, prepend=0.0):
            run = glass.load(float(step))
            activity += run.activity
            loading.append(
                {
                    "strain": glass.strain,
                    "stress": glass.stress,
                    "activity": activity,
                    "failures": run.failures,
                    "drift": run.drift if run.failures else None,
                    "avalanches": len(run.size_a),
                }
            )
        modes, spectra = [], []
        for amplitude in self.mode_amplitudes:
            context.progress(f"modes at A = {amplitude:g}")
            run = self._system(size, amplitude, seed(), ModeBlocks(self._replacement())).steady_state(
                self.mode_activity, skip=self.mode_activity, every=0.02
            )
            lam_sn = [snapshot.lam_n for snapshot in run.snapshots]
            spectra.append(
                _row(
                    run,
                    alpha=_exponent(alpha_from_curvatures, lam_sn, window=self.mode_window),
                    soft_alpha=self._soft_alpha(run, seed()),
                )
            )
            last = run.snapshots[-1]
            # The snapshot may be amid an avalanche: those that wait to fail have no minimum, others wait to be replaced.
            settled_n = lam_sn[-1] <= self.lambda_min
            modes.append(
                pl.DataFrame(
                    {
                        "amplitude": np.full(int(settled_n.sum()), amplitude),
                        "lam": lam_sn[-1][settled_n],
                        "kappa": last.kappa_n[settled_n],
                        "phi": last.phi_n[settled_n],
                    }
                )
            )
        return {
            STEADY: pl.DataFrame(steady),
            LOADING: pl.DataFrame(loading),
            MODES: pl.concat(modes)
            if modes
            else pl.DataFrame(schema=dict.fromkeys(("amplitude", "lam", "kappa", "phi"), pl.Float64)),
            SPECTRA: pl.DataFrame(spectra),
        }

    def _soft_alpha(self, run: Run, seed: int) -> tuple[float | None, float | None]:
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
        )
        return _exponent(lambda sightings: sightings.alpha(), seen)

    def _system(self, size: int, amplitude: float, seed: int, blocks: ModeBlocks | None = None) -> MeanField:
        # In a steady state at A = 0.3 the largest avalanche has 15 failures per block of 100, 9 of 200, 3 of 1000, and is no runaway.
        return MeanField(size, amplitude, self.mu, blocks=blocks, largest_avalanche=max(10.0, 1e4 / size), seed=seed)

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
