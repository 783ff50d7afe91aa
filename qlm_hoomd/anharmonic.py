r"""The energy along soft modes to fourth order, in the variables of the theory, and the strain to the instability they predict.

Along a unit vector z, at strain gamma from the present state and with everything else frozen,

    U(s, gamma) = lambda s^2 / 2 + kappa s^3 / 6 + chi s^4 / 24 + C s gamma,
    lambda = U'' : zz,   kappa = U''' : zzz,   chi = U'''' : zzzz,   C = z . Xi,   Xi = d2U / (dr dgamma).

Units of the theory. It has chi = 1 and C = 1 by choice of units (the paper, section II). With displacement s = a s' and energy
U = e U', lambda' = lambda a^2 / e, kappa' = kappa a^3 / e and chi' = chi a^4 / e. Here e = a^2, which keeps lambda' = lambda =
omega^2, and a = 1 / sqrt(chi), which makes chi' = 1; then

    kappa' = kappa / sqrt(chi),   Phi' = kappa'^2 - 2 lambda = (kappa^2 - 2 lambda chi) / chi,   sigma' = -C sqrt(chi) gamma.

A mode has its own chi, hence its own a; the parabolas Phi' = 0 and kappa'^2 = 8 lambda / 3 do not depend on that choice, since
kappa^2 / (lambda chi) has no unit. With a = chi^(-1/4), e = 1 instead, lambda, kappa'^2 and Phi' would all be divided by
sqrt(chi).

Signs. z and -z are one mode; under the swap kappa and C change sign together. ``kappa_theory`` is kappa' of the orientation
that forward shear drives (C < 0, the theory's u(s) - s sigma): under forward shear (gamma grows) modes with kappa' < 0 soften
and can fail, under backward shear those with kappa' > 0. A predicted strain is signed alike: positive for forward shear.
Where C = 0 there is no such orientation, and kappa' keeps the sign of kappa.

Distance. An instability is where lambda + kappa s + chi s^2 / 2 = 0 on the way, that is kappa' = -sqrt(Phi') under forward
shear. From sigma' = kappa'^3 / 6 - Phi' kappa' / 2 at fixed Phi' (the paper's (3), (4) and (D1)) follows, in any units,

    |C gamma| = (k - r)^2 (k + 2 r) / (6 chi^2) = 2 lambda^2 (k + 2 r) / (3 (k + r)^2),   k = |kappa|,   r = sqrt(Phi),

which becomes lambda^2 / (2 k) for lambda chi << kappa^2 (the paper's (D2)). It is the paper's x in the theory's units where it
is multiplied by sqrt(chi): ``distance_theory``.

Which modes. The theory's mode is a place that can fail. A harmonic mode of a glass is not: it hybridises with phonons and with
other soft spots, and its frozen chi is that of everything that moves along. By Phi nearly all of them are passive, while every
glass fails. Cubic modes (:class:`~qlm_hoomd.nonlinear.CubicModes`) do not mix and move as an instability does; by the frozen
chi nearly all of them are passive too. docs/concepts.md says what each kind predicts.

What follows the mode. Along an eigenvector z the other modes relax, and shear changes the curvature itself. To the next order
in lambda the energy of the relaxed glass is

    V(s, gamma) = lambda s^2 / 2 + kappa s^3 / 6 + chi_r s^4 / 24 + gamma (C s + T s^2 / 2),
    chi_r = chi - 3 v . H^-1 . v,   T = dH/dgamma : zz - v . H^-1 . Xi,   v = U''' : zz less its part along z,

and V' = V'' = 0 gives lambda C + kappa C s + (chi_r C + kappa T) s^2 / 2 + T chi_r s^3 / 3 = 0. A mode may then have an
instability in either direction of shear. Along a z that is no eigenvector, such as a cubic mode, s is the coordinate z . r, and
what minimises the energy at given s already follows in first order, along y = H^-1 z / (z . H^-1 z). Everything above then
holds with lambda_r = 1 / (z . H^-1 z) and with y in place of z in kappa, chi, C, dH/dgamma and v (H^-1 at fixed s as before).
In glasses of N = 2000 (4 events) the prediction, the nearest of the six softest harmonic modes, met the observed strain within
2 % at a distance of 1e-4; at 4e-4 to 2e-3 it was off by 4 to 34 %, the cubic estimate by 5 % to a factor of 3.5, and chi of the
frozen direction made the modes passive.
"""

# One file: the energy along one mode, what it predicts, and both for the many modes of a glass.
# Array names carry their axes: m modes, n particles, c Cartesian components, p pairs, b bins.

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from qlm_hoomd.base.display import Computation, Displayed, counted
from qlm_hoomd.base.errors import InputError
from qlm_hoomd.mechanics import SHEAR_XY
from qlm_hoomd.minimize.surface import without_drift
from qlm_hoomd.numerics import solve

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike, NDArray

    from qlm_hoomd.hessian import Hessian
    from qlm_hoomd.mechanics import Bonds

# Relative to |Xi|: a smaller coupling is rounding, as for a mode that symmetry uncouples from shear.
_NO_COUPLING = 1e-12
# Residual of an eigenvector, relative to the mean curvature of the glass.
_EIGENVECTOR = 1e-6
# From this many modes on the joint distribution is drawn as a density.
_DENSITY_FROM = 1000


def inverse_diagonal(bonds: Bonds) -> NDArray[np.float64]:
    """((N, 3, 3) ndarray) inverse diagonal blocks of the Hessian [length^2 / energy], the preconditioner of every solve."""
    out_ncc = np.empty((bonds.n_particles, 3, 3))
    solve.inverse_diagonal_blocks(
        bonds.n_particles, bonds.i_p, bonds.j_p, bonds.r_pc, bonds.phi_kp[1], bonds.phi_kp[2], bonds.flat, out_ncc
    )
    return out_ncc


def mean_curvature(bonds: Bonds) -> float:
    """Mean eigenvalue of the Hessian, its trace over dN [energy / length^2]."""
    r2_p = np.einsum("pc,pc->p", bonds.r_pc, bonds.r_pc)
    d = bonds.dimensions
    return float((4.0 * d * bonds.phi_kp[1] + 8.0 * bonds.phi_kp[2] * r2_p).sum()) / (d * bonds.n_particles)


def curvature_rate(bonds: Bonds, mode_nc: NDArray[np.float64], gradient_cc: NDArray[np.float64] = SHEAR_XY) -> float:
    """dH/dgamma : zz [energy / length^2] under the affine shear r -> (1 + gamma E) r, with z and all else kept. Needs order 3.

    Each pair gives 4 phi'' b (r.Er) + 8 phi''' a^2 (r.Er) + 8 phi'' a (Er.z_ij) with a = r.z_ij, b = z_ij^2.
    """
    z_pc = mode_nc[bonds.j_p] - mode_nc[bonds.i_p]
    er_pc = bonds.r_pc @ gradient_cc.T
    a_p = np.einsum("pc,pc->p", bonds.r_pc, z_pc)
    b_p = np.einsum("pc,pc->p", z_pc, z_pc)
    stretch_p = np.einsum("pc,pc->p", bonds.r_pc, er_pc)
    phi2_p, phi3_p = bonds.phi_kp[2], bonds.phi_kp[3]
    return float(
        (4.0 * phi2_p * b_p + 8.0 * phi3_p * a_p**2) @ stretch_p + 8.0 * (phi2_p * a_p) @ np.einsum("pc,pc->p", er_pc, z_pc)
    )


def distance_to_instability(curvature: ArrayLike, kappa: ArrayLike, phi: ArrayLike) -> NDArray[np.float64]:
    """Force |C gamma| along the mode that brings it to its instability (the paper's x in the theory's units), all arrays alike.

    2 lambda^2 (k + 2 sqrt(Phi)) / (3 (k + sqrt(Phi))^2), k = |kappa|; equals (D1) of the paper without its loss of digits.

    Args:
        curvature: lambda [energy / length^2].
        kappa: kappa [energy / length^3].
        phi: Phi = kappa^2 - 2 lambda chi [energy^2 / length^6].

    Returns:
        [energy / length]; NaN for a passive mode (Phi < 0) and for one of negative curvature.
    """
    curvature, kappa, phi = (np.asarray(values, dtype=np.float64) for values in (curvature, kappa, phi))
    k, root = np.abs(kappa), np.sqrt(np.where(phi >= 0.0, phi, np.nan))
    with np.errstate(divide="ignore", invalid="ignore"):
        force = 2.0 * curvature**2 * (k + 2.0 * root) / (3.0 * (k + root) ** 2)
    return np.asarray(np.where((curvature >= 0.0) & (k > 0.0), force, np.nan))


@dataclass(frozen=True, slots=True, repr=False)
class ModeExpansion(Displayed):
    """The energy along one mode z, |z| = 1, to fourth order. The module says what is derived from it, and how.

    Args:
        curvature: lambda = U'' : zz [energy / length^2]; the eigenvalue for a harmonic mode.
        kappa: U''' : zzz [energy / length^3]; its sign is that of z.
        chi: U'''' : zzzz along the frozen direction [energy / length^4].
        shear_coupling: C = z . Xi [energy / length]; its sign is that of z; exactly 0 below 1e-12 |Xi|.
        chi_relaxed: chi - 3 v . H^-1 . v [energy / length^4], often negative. None if not asked for, or if the rest of the
            glass cannot follow: a direction orthogonal to z has negative curvature, or the linear system was not solved.
        curvature_rate: T = dlambda/dgamma at fixed s, with the rest of the glass following [energy / length^2]. None as for
            ``chi_relaxed``.
        curvature_relaxed: lambda_r along y, the direction in which the glass follows s. None as for ``chi_relaxed``; None also,
            as the two below, where z is an eigenvector of the Hessian: they are then those along z itself.
        kappa_relaxed: U''' : yyy.
        coupling_relaxed: y . Xi.
    """

    curvature: float
    kappa: float
    chi: float
    shear_coupling: float
    chi_relaxed: float | None = None
    curvature_rate: float | None = None
    curvature_relaxed: float | None = None
    kappa_relaxed: float | None = None
    coupling_relaxed: float | None = None

    @property
    def phi(self) -> float:
        """Phi = kappa^2 - 2 lambda chi [energy^2 / length^6]; negative for a passive mode.

        The chi is that of the frozen direction.
        """
        return self.kappa**2 - 2.0 * self.curvature * self.chi

    @property
    def kappa_theory(self) -> float | None:
        """kappa / sqrt(chi) [sqrt(energy) / length], oriented along forward shear; None where chi <= 0."""
        orientation = -1.0 if self.shear_coupling > 0.0 else 1.0
        return orientation * self.kappa / self.chi**0.5 if self.chi > 0.0 else None

    @property
    def phi_theory(self) -> float | None:
        """Phi / chi = kappa_theory^2 - 2 lambda [energy / length^2]; None where chi <= 0."""
        return self.phi / self.chi if self.chi > 0.0 else None

    @property
    def distance_theory(self) -> float | None:
        """x, the distance to the instability in the theory's units (its sigma'), not negative [energy^(3/2) / length^3].

        None for a passive mode, and where chi <= 0 or the curvature is negative.
        """
        if self.kappa_theory is None or self.phi_theory is None:
            return None
        distance = distance_to_instability(self.curvature, self.kappa_theory, self.phi_theory).item()
        return None if np.isnan(distance) else distance

    @property
    def cubic_strain(self) -> float | None:
        """lambda^2 / (2 kappa C), the strain to the instability for lambda chi << kappa^2, whatever chi is.

        None for a mode that does not couple to shear, has no kappa, or has negative curvature.
        """
        slope = 2.0 * self.kappa * self.shear_coupling
        return self.curvature**2 / slope if self.curvature >= 0.0 and slope != 0.0 else None

    @property
    def quartic_strain(self) -> float | None:
        """Strain to the instability in the theory, with chi of the frozen direction; None as above, and for a passive mode."""
        force = distance_to_instability(self.curvature, self.kappa, self.phi).item()
        if self.cubic_strain is None or np.isnan(force):
            return None
        return float(np.copysign(force / abs(self.shear_coupling), self.kappa * self.shear_coupling))

    @property
    def relaxed_strain_forward(self) -> float | None:
        """Strain (positive) to the instability under forward shear with the rest of the glass following.

        None if there is none.
        """
        return self._relaxed_strain(1.0)

    @property
    def relaxed_strain_backward(self) -> float | None:
        """Strain (negative) to the instability under backward shear with the rest of the glass following.

        None if there is none.
        """
        return self._relaxed_strain(-1.0)

    def _relaxed_strain(self, direction: float) -> float | None:
        if self.chi_relaxed is None or self.curvature_rate is None:
            return None
        chi, rate = self.chi_relaxed, self.curvature_rate
        curvature, kappa, coupling = self.curvature, self.kappa, self.shear_coupling
        if self.curvature_relaxed is not None and self.kappa_relaxed is not None and self.coupling_relaxed is not None:
            curvature, kappa, coupling = self.curvature_relaxed, self.kappa_relaxed, self.coupling_relaxed
        if curvature < 0.0 or coupling == 0.0:
            return None
        roots = np.roots([rate * chi / 3.0, 0.5 * (chi * coupling + kappa * rate), kappa * coupling, curvature * coupling])
        real = roots.real[np.abs(roots.imag) < 1e-9 * np.abs(roots)]
        # Shear drives s against the sign of C, and never beyond s = -C / T, where gamma diverges.
        ahead = real[(real * coupling * direction < 0.0) & (1.0 + real * rate / coupling > 0.0)]
        if not len(ahead):
            return None
        s = float(ahead[np.abs(ahead).argmin()])
        strain = -(curvature * s + kappa * s**2 / 2.0 + chi * s**3 / 6.0) / (coupling + rate * s)
        return strain if strain * direction > 0.0 else None

    def row(self) -> dict[str, float | None]:
        """The fields but for those of the path, and what follows from all of them: a row of :attr:`AnharmonicModes.table`."""
        return {name: getattr(self, name) for name in EXPANSION_COLUMNS}


_DERIVED = (
    "phi", "kappa_theory", "phi_theory", "distance_theory", "cubic_strain", "quartic_strain", "relaxed_strain_forward", "relaxed_strain_backward",
)  # fmt: skip
_OF_THE_PATH = ("curvature_relaxed", "kappa_relaxed", "coupling_relaxed")
EXPANSION_COLUMNS = dict.fromkeys(
    (*(name for name in ModeExpansion.__dataclass_fields__ if name not in _OF_THE_PATH), *_DERIVED), pl.Float64
)


class _Expander:
    """What the expansions along all modes of one glass share."""

    def __init__(
        self, bonds: Bonds, gradient_cc: NDArray[np.float64], *, relaxed: bool, tolerance: float, max_products: int
    ) -> None:
        if len(bonds.phi_kp) < 5:
            raise InputError(
                f"the potential's derivatives go to order {len(bonds.phi_kp) - 1}; expected 4: Hessian(..., order=4)."
            )
        self._bonds, self._gradient_cc = bonds, gradient_cc
        self._xi_nc = bonds.mixed_derivative(gradient_cc)
        self._tolerance, self._max_products = tolerance, max_products
        self._inverse_ncc = inverse_diagonal(bonds) if relaxed else None
        self._residual = _EIGENVECTOR * mean_curvature(bonds)

    def expand(self, mode_nc: NDArray[np.float64]) -> ModeExpansion:
        bonds = self._bonds
        mode_nc = np.ascontiguousarray(mode_nc, dtype=np.float64)
        norm = float(np.linalg.norm(mode_nc))
        if not (np.isfinite(norm) and norm > 0.0):
            raise InputError(f"a mode has norm {norm:g}; expected a finite displacement field other than zero.")
        mode_nc = mode_nc / norm
        frozen = ModeExpansion(bonds.curvature(mode_nc), bonds.kappa(mode_nc), bonds.chi(mode_nc), self._coupling(mode_nc))
        return frozen if self._inverse_ncc is None else self._relaxed(mode_nc, frozen)

    def _coupling(self, field_nc: NDArray[np.float64]) -> float:
        coupling = float(np.vdot(self._xi_nc, field_nc))
        return coupling if abs(coupling) > _NO_COUPLING * float(np.linalg.norm(self._xi_nc)) else 0.0

    def _relaxed(self, mode_nc: NDArray[np.float64], frozen: ModeExpansion) -> ModeExpansion:
        """The expansion along a unit vector, with what follows from the rest of the glass following."""
        bonds = self._bonds
        tangent_nc, followed = mode_nc, frozen
        product_nc = bonds.product(mode_nc)
        drag_nc = product_nc - np.vdot(mode_nc, product_nc) * mode_nc
        if not np.linalg.norm(drag_nc) <= self._residual:
            response_nc = self._response(mode_nc, drag_nc)
            if response_nc is None:
                return frozen
            tangent_nc = mode_nc - response_nc
            followed = replace(
                frozen,
                curvature_relaxed=frozen.curvature - float(np.vdot(drag_nc, response_nc)),
                kappa_relaxed=bonds.kappa(tangent_nc),
                coupling_relaxed=self._coupling(tangent_nc),
            )
        force_nc = without_drift(bonds.third_contraction(tangent_nc))
        force_nc -= np.vdot(mode_nc, force_nc) * mode_nc
        response_nc = self._response(mode_nc, force_nc)
        if response_nc is None:
            return frozen
        return replace(
            followed,
            chi_relaxed=bonds.chi(tangent_nc) - 3.0 * float(np.vdot(force_nc, response_nc)),
            curvature_rate=curvature_rate(bonds, tangent_nc, self._gradient_cc) - float(np.vdot(response_nc, self._xi_nc)),
        )

    def _response(self, mode_nc: NDArray[np.float64], force_nc: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """The displacement orthogonal to the mode that a force orthogonal to it makes; None if the glass cannot follow."""
        bonds = self._bonds
        response_nc, _, negative, residual = solve.projected_conjugate_gradient(
            bonds.owner_r, bonds.first_r, bonds.j_p, bonds.r_pc, bonds.phi_kp[1], bonds.phi_kp[2], self._inverse_ncc, force_nc,
            mode_nc, self._tolerance, self._max_products,
        )  # fmt: skip
        return None if negative or not residual <= self._tolerance else response_nc


def expand(
    bonds: Bonds,
    mode_nc: NDArray[np.float64],
    *,
    gradient_cc: NDArray[np.float64] = SHEAR_XY,
    relaxed: bool = True,
    tolerance: float = 1e-6,
    max_products: int = 20_000,
) -> ModeExpansion:
    """The energy along one mode ((N, 3) ndarray, normalised here) of a glass whose ``bonds`` are known to order 4.

    Args:
        bonds: pairs of the glass.
        mode_nc: ((N, 3) ndarray) any displacement field but zero.
        gradient_cc: ((3, 3) ndarray) velocity gradient of the shear, dr = gamma E . r.
        relaxed: also let the rest of the glass follow, one linear system, or two where the mode is no eigenvector.
        tolerance: its relative residual.
        max_products: Hessian products before giving up on it.

    Raises:
        InputError: if the mode is zero or not finite, or the bonds are of lower order.
    """
    expander = _Expander(bonds, gradient_cc, relaxed=relaxed, tolerance=tolerance, max_products=max_products)
    return expander.expand(mode_nc)


class AnharmonicModes(Computation):
    """The energy along many modes of one glass, to fourth order.

    Args:
        relaxed: also let the rest of the glass follow; one or two linear systems a mode, the only costly part.
        gradient_cc: ((3, 3) ndarray) velocity gradient of the shear that the modes couple to.
        tolerance: relative residual of the linear systems.
        max_products: Hessian products before one is given up, and its numbers are null.

    After :meth:`compute`: ``expansions``, one :class:`ModeExpansion` for each mode.
    """

    expansions: tuple[ModeExpansion, ...]

    def __init__(
        self,
        *,
        relaxed: bool = True,
        gradient_cc: NDArray[np.float64] = SHEAR_XY,
        tolerance: float = 1e-6,
        max_products: int = 20_000,
    ) -> None:
        self.relaxed = relaxed
        self.gradient_cc = np.asarray(gradient_cc, dtype=np.float64)
        self.tolerance = tolerance
        self.max_products = max_products

    def _settings(self) -> Mapping[str, Any]:
        return {
            "relaxed": self.relaxed,
            "gradient_cc": self.gradient_cc.tolist(),
            "tolerance": self.tolerance,
            "max_products": self.max_products,
        }

    def _headline(self) -> str:
        if not hasattr(self, "expansions"):
            return ""
        passive = sum(expansion.phi < 0.0 for expansion in self.expansions)
        return f"{counted(len(self.expansions), 'mode')}, {passive} of them passive"

    def compute(self, hessian: Hessian, vectors_mnc: NDArray[np.float64]) -> AnharmonicModes:
        """Expand the energy of a computed Hessian of order 4 along ``vectors_mnc`` ((M, N, 3) ndarray).

        Raises:
            InputError: if the shapes do not fit, a mode is zero, or the Hessian is of lower order.
        """
        bonds = hessian.bonds
        if np.ndim(vectors_mnc) != 3 or np.shape(vectors_mnc)[1:] != (bonds.n_particles, 3):
            raise InputError(f"modes of shape {np.shape(vectors_mnc)}; expected (M, {bonds.n_particles}, 3).")
        expander = _Expander(
            bonds, self.gradient_cc, relaxed=self.relaxed, tolerance=self.tolerance, max_products=self.max_products
        )
        self.expansions = tuple(expander.expand(mode_nc) for mode_nc in vectors_mnc)
        return self

    def __len__(self) -> int:
        return len(self.expansions)

    def __getitem__(self, mode: int) -> ModeExpansion:
        return self.expansions[mode]

    def __iter__(self) -> Iterator[ModeExpansion]:
        return iter(self.expansions)

    @property
    def table(self) -> pl.DataFrame:
        """One row for each mode: the fields and properties of :class:`ModeExpansion`; null where there is no such number."""
        return pl.DataFrame([expansion.row() for expansion in self.expansions], schema=EXPANSION_COLUMNS, orient="row")

    def nearest_strain(
        self, direction: Literal[1, -1] = 1, estimate: Literal["cubic", "quartic", "relaxed"] = "relaxed"
    ) -> float:
        """Smallest strain (magnitude) at which a mode is predicted to become unstable; infinite if none is.

        Args:
            direction: 1 for forward shear, -1 for backward.
            estimate: which of the predictions of :class:`ModeExpansion`.
        """
        if direction not in {1, -1}:
            raise InputError(f"direction = {direction}; expected 1 (forward) or -1 (backward).")
        if estimate not in {"cubic", "quartic", "relaxed"}:
            raise InputError(f"estimate = {estimate!r}; expected cubic, quartic or relaxed.")
        side = ("_forward" if direction > 0 else "_backward") if estimate == "relaxed" else ""
        strains = [getattr(expansion, f"{estimate}_strain{side}") for expansion in self.expansions]
        return min((abs(strain) for strain in strains if strain is not None and strain * direction >= 0.0), default=np.inf)

    def plot(self, ax: Axes | None = None) -> Axes:
        """The modes in the plane of the theory's variables; see :class:`JointDistribution`."""
        return JointDistribution().compute(self.table).plot(ax)


class JointDistribution(Computation):
    """The joint distribution P(lambda, kappa) of modes, in the theory's units, as its figure 1 has it.

    Modes with Phi = kappa^2 - 2 lambda < 0 are passive. Beyond kappa^2 = 8 lambda / 3 the quartic energy has a second minimum:
    a mode that has just failed is reinserted on that parabola. Beyond 3 lambda the second minimum is the deeper one.

    Args:
        bins: number of bins of the density along each axis.

    After :meth:`compute`: ``curvatures`` and ``kappas`` ((M,) ndarrays, theory's units), ``left_out`` (modes without them),
    ``fractions`` of passive modes, of those that can fail but have one minimum, of those with a second minimum.
    """

    curvatures: NDArray[np.float64]
    kappas: NDArray[np.float64]
    left_out: int
    fractions: dict[str, float]

    def __init__(self, bins: int = 60) -> None:
        if bins < 2:
            raise InputError(f"bins = {bins}; expected at least 2.")
        self.bins = bins

    def _settings(self) -> Mapping[str, Any]:
        return {"bins": self.bins}

    def _headline(self) -> str:
        if not hasattr(self, "kappas"):
            return ""
        shares = ", ".join(f"{share:.1%} {name}" for name, share in self.fractions.items())
        return f"{counted(len(self.kappas), 'mode')}: {shares}"

    def compute(self, table: pl.DataFrame) -> JointDistribution:
        """Take the modes of any table with the columns ``curvature`` (or ``eigenvalue``) and ``kappa_theory``.

        Raises:
            InputError: if a column is missing, or no mode has positive curvature and positive chi.
        """
        name = "curvature" if "curvature" in table.columns else "eigenvalue"
        missing = [column for column in (name, "kappa_theory") if column not in table.columns]
        if missing:
            raise InputError(
                f"the table lacks the column(s) {', '.join(missing)}; expected a table of AnharmonicModes or of modes."
            )
        kept = table.select(pl.col(name).alias("curvature"), "kappa_theory").drop_nulls().filter(pl.col("curvature") > 0.0)
        if kept.is_empty():
            raise InputError("no mode has positive curvature and positive chi; expected modes of a glass at a minimum.")
        self.left_out = len(table) - len(kept)
        self.curvatures = kept["curvature"].to_numpy()
        self.kappas = kept["kappa_theory"].to_numpy()
        ratio_m = self.kappas**2 / self.curvatures
        self.fractions = {
            "passive": float((ratio_m < 2.0).mean()),
            "one minimum": float(((ratio_m >= 2.0) & (ratio_m < 8.0 / 3.0)).mean()),
            "two minima": float((ratio_m >= 8.0 / 3.0).mean()),
        }
        return self

    def plot(self, ax: Axes | None = None) -> Axes:
        """The plane of lambda and kappa: modes or their density, with the parabolas Phi = 0 and kappa^2 = 8 lambda / 3."""
        from matplotlib import pyplot as plt
        from matplotlib.colors import LogNorm

        if ax is None:
            _, ax = plt.subplots()
        # A few modes far out would leave the parabolas no room; they are kept in the numbers and counted in the title.
        right = float(np.quantile(self.curvatures, 0.98)) * 1.05
        top = max(1.15 * (8.0 * right / 3.0) ** 0.5, float(np.quantile(np.abs(self.kappas), 0.98)))
        if len(self.kappas) >= _DENSITY_FROM:
            edges = (np.linspace(0.0, right, self.bins + 1), np.linspace(-top, top, self.bins + 1))
            density_bb, _, _ = np.histogram2d(self.curvatures, self.kappas, bins=edges)
            density_bb /= len(self.kappas) * (edges[0][1] - edges[0][0]) * (edges[1][1] - edges[1][0])
            image = ax.pcolormesh(
                *edges,
                np.ma.masked_equal(density_bb.T, 0.0),
                norm=LogNorm(vmin=density_bb[density_bb > 0.0].min() / 4.0),
                cmap="Blues",
                rasterized=True,
            )
            ax.figure.colorbar(image, ax=ax, label=r"$P(\lambda,\kappa)$")
        else:
            ax.plot(self.curvatures, self.kappas, "o", ms=4, alpha=0.6, mec="none", color="C0")
        lambda_b = np.linspace(0.0, right, 400)
        for slope, style, label in (
            (2.0, {"color": "black", "ls": "-"}, r"$\Phi=\kappa^2-2\lambda=0$"),
            (8.0 / 3.0, {"color": "tab:green", "ls": "--"}, r"$\kappa^2=8\lambda/3$ (reinsertion)"),
        ):
            for sign in (1.0, -1.0):
                style_of_line: dict[str, Any] = style | ({"label": label} if sign > 0 else {})
                ax.plot(lambda_b, sign * np.sqrt(slope * lambda_b), lw=1.4, **style_of_line)
        outside = int(((self.curvatures > right) | (np.abs(self.kappas) > top)).sum())
        ax.set_title(f"{len(self.kappas)} modes" + (f", {outside} outside the picture" if outside else ""), fontsize="medium")
        ax.set_xlim(0.0, right)
        ax.set_ylim(-top, top)
        ax.set_xlabel(r"curvature $\lambda=\omega^2$ [$\varepsilon/d^2$]")
        ax.set_ylabel(r"$\kappa/\sqrt{\chi}$ [$\sqrt{\varepsilon}/d$]")
        ax.legend(loc="upper left", fontsize="small")
        return ax
