"""Lowest vibrational modes of a glass: eigenpairs of the Hessian with residuals, translations deflated, filtered by size."""

# Array names carry their axes: m modes, n particles, c Cartesian components, d = 3N degrees of freedom.

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import numpy as np
import polars as pl
import scipy.linalg
import scipy.sparse as sp
import scipy.sparse.linalg as spl
from pydantic import Field

from qlm_hoomd import gsdio
from qlm_hoomd.elasticity import elastic_moduli, residual_shear_stress
from qlm_hoomd.errors import ConvergenceError, InputError
from qlm_hoomd.hessian import Hessian
from qlm_hoomd.stages import Stage, StageContext

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from qlm_hoomd.glass import Glass
    from qlm_hoomd.mechanics import Bonds
    from qlm_hoomd.model import GlassModel

_Solver = Literal["auto", "dense", "factor", "filter"]
# Below this many particles LAPACK is as quick as Lanczos.
_LARGEST_DENSE = 350
_SHIFT = 1e-3
_FILTER_DEGREE = 80
# Residual |H psi - lambda psi| over the largest eigenvalue beyond which a pair is no eigenpair.
_RESIDUAL_TOLERANCE = 1e-8


def participation_ratio(modes_mnc: NDArray[np.float64]) -> NDArray[np.float64]:
    """((M,) ndarray) e = 1 / (N sum_j |psi_j|^4) for normalised modes ((M, N, 3) ndarray): 1 / N for one particle, 1 for all.

    Source: the paper, section III (after Mizuno, Shiba, Ikeda, PNAS 114, E9767 (2017)), with sum_j |psi_j|^2 = 1.
    """
    square_mn = np.einsum("mnc,mnc->mn", modes_mnc, modes_mnc)
    norm_m = square_mn.sum(axis=1)
    return np.asarray(norm_m**2 / (square_mn.shape[1] * (square_mn**2).sum(axis=1)))


class LowestModes:
    """The k lowest eigenpairs of a Hessian, uniform translations left out.

    Args:
        k: number of modes.
        solver: "dense" (all of LAPACK), "factor" (shift-invert Lanczos with a sparse factor), "filter" (Lanczos on a Chebyshev
            polynomial of the Hessian; memory grows as N) or "auto" (by size).

    After :meth:`compute`: ``eigenvalues`` ((M,) ndarray [energy / length^2]), ``frequencies`` ((M,) ndarray [1 / t_c], negative
    for negative eigenvalues), ``vectors`` ((M, N, 3) ndarray, normalised), ``residuals`` ((M,) ndarray [energy / length^2]),
    ``participation_ratios`` ((M,) ndarray), ``solver_used``.
    """

    def __init__(self, k: int = 20, solver: _Solver = "auto") -> None:
        if k < 1:
            raise InputError(f"k = {k}; expected at least one mode.")
        if solver not in get_args(_Solver):
            raise InputError(f"solver = {solver!r}; expected one of {', '.join(get_args(_Solver))}.")
        self.k = k
        self.solver = solver

    def __repr__(self) -> str:
        return f"LowestModes(k={self.k}, solver={self.solver!r})"

    def compute(self, hessian: Hessian) -> LowestModes:
        """Find the modes.

        Raises:
            InputError: if there are fewer than k modes.
            ConvergenceError: if an eigenpair's residual is too large.
        """
        bonds = hessian.bonds
        n_particles = bonds.n_particles
        if self.k > 3 * n_particles - 3:
            raise InputError(f"k = {self.k}; expected at most 3N - 3 = {3 * n_particles - 3} modes.")
        solver = self.solver
        if solver == "auto":
            # Lanczos wants room: near the full spectrum only the dense solver is safe. The filter was measured quicker than a
            # sparse factor from N = 500 up.
            solver = "dense" if n_particles <= _LARGEST_DENSE or self.k > n_particles // 2 else "filter"
        find: Callable[[Bonds, int], tuple[NDArray[np.float64], float]] = {
            "dense": _dense,
            "factor": _factored,
            "filter": _filtered,
        }[solver]
        guess_dm, largest = find(bonds, self.k)
        eigenvalue_m, vector_dm, residual_m = _rayleigh_ritz(bonds, guess_dm)
        if not (residual_m <= _RESIDUAL_TOLERANCE * largest).all():
            raise ConvergenceError(
                f"an eigenpair has residual {residual_m.max():.3g}; expected at most {_RESIDUAL_TOLERANCE * largest:.3g} "
                f"(solver '{solver}'). Try another solver."
            )
        self.eigenvalues = eigenvalue_m
        self.residuals = residual_m
        self.vectors = np.ascontiguousarray(vector_dm.T).reshape(-1, n_particles, 3)
        self.frequencies = np.sign(eigenvalue_m) * np.sqrt(np.abs(eigenvalue_m))
        self.participation_ratios = participation_ratio(self.vectors)
        self.solver_used = solver
        return self

    def plot(self, ax: Axes | None = None) -> Axes:
        """Participation ratio against frequency."""
        from matplotlib import pyplot as plt

        if ax is None:
            _, ax = plt.subplots()
        ax.semilogy(self.frequencies, self.participation_ratios, "o")
        ax.set_xlabel(r"frequency $\omega$ [$1/t_c$]")
        ax.set_ylabel("participation ratio $e$")
        return ax


class ParticipationRatioFilter:
    """Keeps the modes of small participation ratio, which are quasi-localised (the paper, section III).

    Args:
        e_c: threshold; modes with e < e_c are kept. The paper: 0.125 at N = 16000, 0.0625 at N = 32000 (2000 particles).
    """

    def __init__(self, e_c: float) -> None:
        if not 0.0 < e_c <= 1.0:
            raise InputError(f"e_c = {e_c}; expected a participation ratio in (0, 1].")
        self.e_c = e_c

    def __repr__(self) -> str:
        return f"ParticipationRatioFilter(e_c={self.e_c:g})"

    def compute(self, modes: LowestModes) -> ParticipationRatioFilter:
        """Select from ``modes``: ``keep`` ((M,) ndarray of bool), ``frequencies`` and ``vectors`` of those kept."""
        self.keep = modes.participation_ratios < self.e_c
        self.frequencies = modes.frequencies[self.keep]
        self.vectors = modes.vectors[self.keep]
        return self


def _without_translations(block: NDArray[np.float64]) -> NDArray[np.float64]:
    """The vectors ((3N,) or (3N, M) ndarray) less their uniform translations, which are exact zero modes."""
    folded = block.reshape(-1, 3, *block.shape[1:])
    return (folded - folded.mean(axis=0)).reshape(block.shape)


def _start_vector(size: int) -> NDArray[np.float64]:
    # The same start every time: the same glass gives the same bytes.
    return _without_translations(np.random.default_rng(20190218).normal(size=size))


def _dense(bonds: Bonds, k: int) -> tuple[NDArray[np.float64], float]:
    matrix_dd = bonds.hessian().toarray()
    size = len(matrix_dd)
    # Lift the translations out of the way instead of guessing which of three small eigenvalues they are.
    lift = np.abs(matrix_dd).sum(axis=1).max()
    for component in range(3):
        translation_d = np.zeros(size)
        translation_d[component::3] = 1.0 / np.sqrt(size / 3)
        matrix_dd += lift * np.outer(translation_d, translation_d)
    _, vector_dm = scipy.linalg.eigh(matrix_dd, subset_by_index=[0, k - 1])
    return vector_dm, float(lift)


def _factored(bonds: Bonds, k: int) -> tuple[NDArray[np.float64], float]:
    matrix = bonds.hessian().tocsc()
    size = matrix.shape[0]
    shift = _SHIFT
    factor = _shifted_factor(matrix, shift)
    if (factor.U.diagonal() < 0.0).any():
        # By Sylvester's law there are eigenvalues below -shift, a saddle; shift-invert finds the lowest from below alone.
        lowest = spl.eigsh(matrix, k=1, which="SA", v0=_start_vector(size), tol=1e-2, return_eigenvectors=False)[0]
        shift -= 1.1 * float(lowest)
        factor = _shifted_factor(matrix, shift)
    inverse = spl.LinearOperator(
        (size, size), matvec=lambda x: _without_translations(factor.solve(_without_translations(x.ravel()))), dtype=np.float64
    )
    try:
        _, vector_dm = spl.eigsh(
            matrix, k=k, sigma=-shift, OPinv=inverse, which="LM", v0=_start_vector(size), ncv=_basis(k, size)
        )
    except spl.ArpackError as error:
        raise ConvergenceError(f"shift-invert Lanczos did not converge: {error}") from None
    return vector_dm, bonds.largest_eigenvalue()


def _shifted_factor(matrix: sp.csc_array, shift: float) -> spl.SuperLU:
    return spl.splu(
        matrix + shift * sp.eye_array(matrix.shape[0], format="csc"),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )


def _filtered(bonds: Bonds, k: int) -> tuple[NDArray[np.float64], float]:
    """Lanczos on T_n((H - c) / h), which is large below a cut and of order one above it."""
    size = 3 * bonds.n_particles
    top = 1.05 * bonds.largest_eigenvalue()
    # Debye's count of modes below omega, with omega_D from the mean eigenvalue, places the cut; it errs on the high side.
    trace = float((12.0 * bonds.phi_kp[1] + 8.0 * bonds.phi_kp[2] * (bonds.r_pc**2).sum(axis=1)).sum())
    cut = 1.5 * (5.0 / 3.0) * trace / size * ((k + 10) / size) ** (2.0 / 3.0)
    for _ in range(8):
        operator = _chebyshev_operator(bonds, cut, top)
        try:
            _, vector_dm = spl.eigsh(operator, k=k, which="LA", v0=_start_vector(size), ncv=_basis(k, size), tol=1e-13)
        except spl.ArpackError as error:
            raise ConvergenceError(f"Chebyshev-filtered Lanczos did not converge: {error}") from None
        eigenvalue_m, _, _ = _rayleigh_ritz(bonds, vector_dm)
        # Only below the cut does the filter keep the order of the eigenvalues; all k must be there.
        if eigenvalue_m[-1] < cut:
            return vector_dm, top
        cut *= 2.0
    raise ConvergenceError(f"Chebyshev-filtered Lanczos found no window that holds {k} modes.")


def _chebyshev_operator(bonds: Bonds, cut: float, top: float) -> spl.LinearOperator:
    centre, half = 0.5 * (top + cut), 0.5 * (top - cut)
    size = 3 * bonds.n_particles

    def apply(vector_d: NDArray[np.float64]) -> NDArray[np.float64]:
        last_nc = _without_translations(np.asarray(vector_d, dtype=np.float64).ravel()).reshape(-1, 3)
        new_nc = (bonds.product(last_nc) - centre * last_nc) / half
        for _ in range(_FILTER_DEGREE - 1):
            product_nc = bonds.product(new_nc)
            product_nc -= centre * new_nc
            product_nc *= 2.0 / half
            product_nc -= last_nc
            last_nc, new_nc = new_nc, product_nc
        return _without_translations(new_nc.ravel())

    return spl.LinearOperator((size, size), matvec=apply, dtype=np.float64)


def _basis(k: int, size: int) -> int:
    return min(size - 1, max(2 * k + 1, k + 30))


def _rayleigh_ritz(
    bonds: Bonds, guess_dm: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Best eigenpairs within the span of the guesses: eigenvalues (ascending), vectors, residual norms."""
    basis_dm, _ = np.linalg.qr(_without_translations(guess_dm))
    product_dm = np.stack([bonds.product(column.reshape(-1, 3)).ravel() for column in basis_dm.T], axis=1)
    small_mm = basis_dm.T @ product_dm
    eigenvalue_m, rotation_mm = scipy.linalg.eigh(0.5 * (small_mm + small_mm.T))
    vector_dm = basis_dm @ rotation_mm
    # The sign of an eigenvector is free; the largest component is made positive, so that files compare.
    rotation_mm = rotation_mm * np.sign(vector_dm[np.abs(vector_dm).argmax(axis=0), np.arange(vector_dm.shape[1])])
    vector_dm = basis_dm @ rotation_mm
    residual_dm = product_dm @ rotation_mm - vector_dm * eigenvalue_m
    return eigenvalue_m, vector_dm, np.linalg.norm(residual_dm, axis=0)


_MODE_COLUMNS = {
    "strain": pl.Float64,
    "index": pl.Int32,
    "eigenvalue": pl.Float64,
    "frequency": pl.Float64,
    "participation_ratio": pl.Float64,
    "residual": pl.Float64,
    "kappa": pl.Float64,
    "chi": pl.Float64,
    "shear_coupling": pl.Float64,
}
_MODULI_COLUMNS = {
    "strain": pl.Float64,
    "shear_modulus": pl.Float64,
    "shear_modulus_mean": pl.Float64,
    "born_shear_modulus": pl.Float64,
    "bulk_modulus": pl.Float64,
    "softest_shear_modulus": pl.Float64,
    "poisson_ratio": pl.Float64,
    "pressure": pl.Float64,
    "energy": pl.Float64,
    "stress_xy": pl.Float64,
    "residual_shear_stress": pl.Float64,
    "strain_since_event": pl.Float64,
}


def mode_rows(modes: LowestModes, hessian: Hessian, strain: float) -> list[dict[str, Any]]:
    """One row for each mode: eigenpair, participation ratio, kappa, chi and coupling to shear.

    chi is U'''' along the frozen harmonic mode. phi'''' of the default potential (q = 3) jumps at the cut-off, so chi jumps
    when a pair crosses it. ``shear_coupling`` is Xi . psi with Xi = d2U/(dr dgamma).
    """
    bonds = hessian.bonds
    xi_nc = bonds.mixed_derivative()
    return [
        {
            "strain": strain,
            "index": index,
            "eigenvalue": float(modes.eigenvalues[index]),
            "frequency": float(modes.frequencies[index]),
            "participation_ratio": float(modes.participation_ratios[index]),
            "residual": float(modes.residuals[index]),
            "kappa": bonds.kappa(mode_nc),
            "chi": bonds.chi(mode_nc),
            "shear_coupling": float(np.vdot(xi_nc, mode_nc)),
        }
        for index, mode_nc in enumerate(modes.vectors)
    ]


class ModesStage(Stage):
    """Lowest modes and elastic moduli of the glass at chosen strains."""

    kind: Literal["modes"] = "modes"
    count: Annotated[int, Field(ge=1, le=1000)] = Field(20, description="number of lowest modes, translations not counted")
    strains: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] = Field(
        (0.0,),
        description="strains at which modes are computed; those other than 0 must be frames of the shear stage, and where its path "
        "passes one several times the first passage counts",
    )
    solver: _Solver = Field("auto", description="eigensolver; auto chooses by size")
    keep_vectors: bool = Field(False, description="write the mode vectors to modes.gsd (one frame a mode)")
    force_tolerance: Annotated[float, Field(gt=0)] = Field(1e-8, description="largest force of a glass at rest [energy/length]")

    def check(self, model: GlassModel, n_particles: list[int]) -> None:
        """Refuse more modes than the smallest system has."""
        most = 3 * min(n_particles) - 3
        if self.count > most:
            raise ValueError(f"count = {self.count}; expected at most {most}, the modes of N = {min(n_particles)}")

    def requires(self) -> tuple[str, ...]:
        """The quenched glass, and the sheared ones where a strain asks for them."""
        sheared = any(strain != 0.0 for strain in self.strains)
        return ("quenched.gsd", "sheared.gsd", "steps.parquet") if sheared else ("quenched.gsd",)

    def products(self) -> tuple[str, ...]:
        """Modes and moduli, and the vectors if they are kept."""
        return ("modes.gsd", "moduli.parquet", "modes.parquet") if self.keep_vectors else ("moduli.parquet", "modes.parquet")

    def run(self, context: StageContext) -> None:
        """Diagonalise the frames at the wanted strains."""
        frames = gsdio.read_glasses(context.path("quenched.gsd"))
        if "sheared.gsd" in self.requires():
            sheared = gsdio.read_glasses(context.path("sheared.gsd"))
            if sheared:
                # Another plane than xy is sheared with the axes of the sample exchanged: the quenched glass is seen the same way.
                frames = [replace(frame, glass=frame.glass.turned(sheared[0].axes)) for frame in frames]
            frames += sheared
            self._check_frames(context, {frame.glass.strain for frame in frames})
        rows: list[dict[str, Any]] = []
        moduli: list[dict[str, Any]] = []
        events = _travelled_to_events(context.path("events.parquet"))
        pictures: list[tuple[Glass, NDArray[np.float64], dict[str, float]]] = []
        for frame in frames:
            glass = frame.glass
            if glass.strain not in self.strains or any(row["strain"] == glass.strain for row in moduli):
                continue
            context.progress(f"{self.count} lowest modes at strain {glass.strain:g}")
            hessian = Hessian(context.engine.potential, order=4, force_tolerance=self.force_tolerance).compute(glass)
            modes = LowestModes(self.count, self.solver).compute(hessian)
            rows += mode_rows(modes, hessian, glass.strain)
            moduli.append(_moduli_row(hessian.bonds, glass.strain) | {"strain_since_event": _since_event(events, frame)})
            if self.keep_vectors:
                pictures += [
                    (glass, vector_nc, {"strain": glass.strain, "eigenvalue": float(eigenvalue)})
                    for vector_nc, eigenvalue in zip(modes.vectors, modes.eigenvalues, strict=True)
                ]
        if self.keep_vectors:
            gsdio.write_modes(context.path("modes.gsd"), pictures, context.provenance)
        context.write_table("moduli.parquet", pl.DataFrame(moduli, schema=_MODULI_COLUMNS, orient="row"))
        context.write_table("modes.parquet", pl.DataFrame(rows, schema=_MODE_COLUMNS, orient="row"))

    def _check_frames(self, context: StageContext, found: set[float]) -> None:
        # A run that was told to end at an instability may not have come as far; one that passed a strain has no excuse.
        passed = pl.read_parquet(context.path("steps.parquet"), columns=["strain"])["strain"].to_numpy()
        missing = [strain for strain in self.strains if strain not in found and passed.min() <= strain <= passed.max()]
        if missing:
            raise InputError(f"no configuration at strains {missing}; expected them among the `frames` of the shear stage.")


def _travelled_to_events(path: Path) -> list[float] | None:
    """Strain travelled to each instability of the shear run; None where nobody recorded any."""
    if not path.exists():
        return None
    events = pl.read_parquet(path)
    return events["travelled" if "travelled" in events.columns else "strain_c"].to_list()


def _since_event(events: list[float] | None, frame: gsdio.Frame) -> float | None:
    """Strain travelled since the last instability, or since the quench; None where it is unknown."""
    if frame.glass.strain == 0.0:
        return 0.0
    travelled = frame.log.get("travelled", frame.glass.strain)
    return None if events is None else travelled - max((event for event in events if event <= travelled), default=0.0)


def _moduli_row(bonds: Bonds, strain: float) -> dict[str, Any]:
    moduli = elastic_moduli(bonds)
    return {
        "strain": strain,
        "shear_modulus": moduli.shear_modulus,
        "shear_modulus_mean": moduli.shear_modulus_mean,
        "born_shear_modulus": moduli.born_shear_modulus,
        "bulk_modulus": moduli.bulk_modulus,
        "softest_shear_modulus": moduli.softest_shear_modulus,
        "poisson_ratio": moduli.poisson_ratio,
        "pressure": bonds.pressure,
        "energy": bonds.energy / bonds.n_particles,
        "stress_xy": bonds.stress_xy,
        "residual_shear_stress": residual_shear_stress(bonds),
    }
