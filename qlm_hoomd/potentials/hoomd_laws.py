"""The pair forces of HOOMD-blue that depend on the distance alone, with the derivatives that HOOMD-blue does not give."""

# Array names carry their axes: p pairs, k order of the derivative, t particle types (one t: pairs of types in the order of
# pairtype).

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from pydantic import Field, model_validator

from qlm_hoomd.potentials.base import PairPotential
from qlm_hoomd.potentials.series import Series

if TYPE_CHECKING:
    from numpy.typing import NDArray

Parameters: TypeAlias = "Mapping[str, NDArray[np.float64]]"
Law: TypeAlias = Callable[[Series, Parameters], Series]
Mode: TypeAlias = Literal["none", "shift", "xplor"]


class HOOMDPotential(PairPotential):
    """One of the pair potentials of ``hoomd.md.pair``, in one of its modes at the cut-off.

    V(r) is the formula of :data:`LAWS`, that of HOOMD-blue's documentation. Within r_cut, ``none`` leaves it as it is,
    ``shift`` subtracts V(r_cut), and ``xplor`` multiplies it beyond r_on by S(r) = (r_cut^2 - r^2)^2 (r_cut^2 + 2 r^2 - 3
    r_on^2) / (r_cut^2 - r_on^2)^3, or shifts it where r_on > r_cut; HOOMD-blue never shifts ``Fourier``, which vanishes at the
    cut-off but for r^-12.
    """

    kind: Literal["hoomd"] = "hoomd"
    law: str = Field(description="name of the class in hoomd.md.pair")
    parameters: dict[str, tuple[tuple[float, ...], ...]] = Field(description="matrix of each parameter of the law, by type")
    r_cut: tuple[tuple[float, ...], ...] = Field(
        description="symmetric matrix of cut-off distances [length]; 0: no interaction"
    )
    r_on: tuple[tuple[float, ...], ...] | None = Field(default=None, description="where the smoothing of xplor begins [length]")
    mode: Mode = Field(default="none", description="what happens at the cut-off")

    @model_validator(mode="after")
    def _complete(self) -> HOOMDPotential:
        if self.law not in LAWS:
            raise ValueError(f"law = '{self.law}'; expected one of {', '.join(LAWS)}")
        if self.mode == "xplor" and self.r_on is None:
            raise ValueError("mode = 'xplor' without r_on; expected a matrix of distances")
        return self

    def cutoffs(self) -> NDArray[np.float64]:
        """See :meth:`PairPotential.cutoffs`; 0 where two types do not interact."""
        return np.array(self.r_cut, dtype=np.float64)

    def derivatives(self, r2_p: NDArray[np.float64], pairtype_p: NDArray[np.uint8], order: int) -> NDArray[np.float64]:
        """See :meth:`PairPotential.derivatives`."""
        out_kp = np.zeros((order + 1, len(r2_p)))
        inside_p = r2_p < self.cutoffs().ravel()[pairtype_p] ** 2
        t_p = pairtype_p[inside_p]
        w = Series.variable(r2_p[inside_p], order)
        out_kp[:, inside_p] = self._within(w, {name: value_t[t_p] for name, value_t in self._values().items()}).derivatives()
        return out_kp

    def _values(self) -> dict[str, NDArray[np.float64]]:
        """((T * T,) ndarrays) parameters, ``r_cut`` and ``r_on`` of each pair of types."""
        named = {**self.parameters, "r_cut": self.r_cut, "r_on": self.r_on or self.r_cut}
        return {name: np.array(matrix, dtype=np.float64).ravel() for name, matrix in named.items()}

    def _within(self, w: Series, p: Parameters) -> Series:
        """The energy of pairs within the cut-off as a function of w = r^2."""
        law, cut2_p, on2_p = LAWS[self.law], p["r_cut"] ** 2, p["r_on"] ** 2
        energy = law(w**0.5, p)
        if self.mode == "none":
            return energy
        shifted = energy if self.law == "Fourier" else energy - law(Series(p["r_cut"][None]), p).terms[0]
        if self.mode == "shift":
            return shifted
        with np.errstate(invalid="ignore", divide="ignore"):  # r_on = r_cut, where nothing is smoothed
            factor = (cut2_p - w) ** 2.0 * (cut2_p + 2.0 * w - 3.0 * on2_p) / (cut2_p - on2_p) ** 3
            smoothed = (energy * factor).where(w.terms[0] >= on2_p, energy)
        return shifted.where(on2_p > cut2_p, smoothed)


class SumPotential(PairPotential):
    """The sum of several pair potentials for the same particle types."""

    kind: Literal["sum"] = "sum"
    terms: tuple[PairPotential, ...] = Field(min_length=1, description="the potentials")

    def cutoffs(self) -> NDArray[np.float64]:
        """See :meth:`PairPotential.cutoffs`: the largest of all terms."""
        return np.max([term.cutoffs() for term in self.terms], axis=0)

    def derivatives(self, r2_p: NDArray[np.float64], pairtype_p: NDArray[np.uint8], order: int) -> NDArray[np.float64]:
        """See :meth:`PairPotential.derivatives`."""
        return np.sum([term.derivatives(r2_p, pairtype_p, order) for term in self.terms], axis=0)


def _powers(n: float, m: float) -> Law:
    """4 epsilon [(sigma / (r - delta))^n - (sigma / (r - delta))^m]."""

    def law(r: Series, p: Parameters) -> Series:
        x = p["sigma"] / (r - p.get("delta", 0.0))
        return 4.0 * p["epsilon"] * (x**n - x**m)

    return law


_lennard_jones = _powers(12.0, 6.0)


def _force_shifted(r: Series, p: Parameters) -> Series:
    slope_p = _lennard_jones(Series.variable(p["r_cut"], 1), p).terms[1]
    return _lennard_jones(r, p) - slope_p * (r - p["r_cut"])


def _mie(r: Series, p: Parameters) -> Series:
    n, m = p["n"], p["m"]
    x = p["sigma"] / (r - p.get("delta", 0.0))
    return p["epsilon"] * n / (n - m) * (n / m) ** (m / (n - m)) * (x**n - x**m)


def _gaussian(r: Series, p: Parameters) -> Series:
    return p["epsilon"] * (-0.5 * ((r - p.get("delta", 0.0)) / p["sigma"]) ** 2.0).exp()


def _lennard_jones_gauss(r: Series, p: Parameters) -> Series:
    return r**-12.0 - 2.0 * r**-6.0 - _gaussian(r, {**p, "delta": p["r0"]})


def _yukawa(r: Series, p: Parameters) -> Series:
    return p["epsilon"] * (-p["kappa"] * r).exp() / r


def _morse(r: Series, p: Parameters) -> Series:
    x = (-p["alpha"] * (r - p["r0"])).exp()
    return p["D0"] * (x * x - 2.0 * x)


def _buckingham(r: Series, p: Parameters) -> Series:
    return p["A"] * (-1.0 / p["rho"] * r).exp() - p["C"] * r**-6.0


def _dpd_conservative(r: Series, p: Parameters) -> Series:
    return p["A"] * (p["r_cut"] - r) - 0.5 * p["A"] / p["r_cut"] * (p["r_cut"] ** 2 - r * r)


def _oscillating(r: Series, p: Parameters) -> Series:
    return p["C1"] * r ** -p["eta1"] + p["C2"] * r ** -p["eta2"] * (p["k"] * r - p["phi"]).cos()


def _screened(*terms: tuple[float, float]) -> Law:
    """Coulomb's law times a sum of ``share`` exp(-``rate`` r / aF)."""

    def law(r: Series, p: Parameters) -> Series:
        x = r / p["aF"]
        first, *others = (share * (-rate * x).exp() for share, rate in terms)
        return p["qi"] * p["qj"] / r * sum(others, start=first)

    return law


def _ten_wolde_frenkel(r: Series, p: Parameters) -> Series:
    x = ((r / p["sigma"]) ** 2.0 - 1.0) ** -3.0
    return 4.0 * p["epsilon"] / p["alpha"] ** 2 * (x * x - p["alpha"] * x)


def _fourier(r: Series, p: Parameters) -> Series:
    a = {2: p["a2"], 3: p["a3"], 4: p["a4"]}
    b = {2: p["b2"], 3: p["b3"], 4: p["b4"]}
    a[1], b[1] = a[2] - a[3] + a[4], 2.0 * b[2] - 3.0 * b[3] + 4.0 * b[4]
    x = np.pi / p["r_cut"] * r
    return r**-12.0 + sum((a[n] * (float(n) * x).cos() + b[n] * (float(n) * x).sin() for n in a), start=0.0 * r) / r**2.0


def _dlvo(r: Series, p: Parameters) -> Series:
    contact_p, product_p = p["a1"] + p["a2"], 2.0 * p["a1"] * p["a2"]
    outer, inner = r * r - contact_p**2, r * r - (p["a1"] - p["a2"]) ** 2
    attraction = product_p / outer + product_p / inner + (outer / inner).log()
    repulsion = 0.5 * product_p / contact_p * p["Z"] * (-p["kappa"] * (r - contact_p)).exp()
    return repulsion - p["A"] / 6.0 * attraction


def _reaction_field(r: Series, p: Parameters) -> Series:
    # HOOMD-blue reads eps_rf = 0 as a conductor.
    field_p = np.where(p["eps_rf"] == 0.0, 0.5, (p["eps_rf"] - 1.0) / (2.0 * p["eps_rf"] + 1.0))
    return p["epsilon"] * (1.0 / r + field_p / p["r_cut"] ** 3 * (r * r))


LAWS: dict[str, Law] = {
    "Buckingham": _buckingham,
    "DLVO": _dlvo,
    "DPDConservative": _dpd_conservative,
    "ExpandedGaussian": _gaussian,
    "ExpandedLJ": _lennard_jones,
    "ExpandedMie": _mie,
    "ForceShiftedLJ": _force_shifted,
    "Fourier": _fourier,
    "Gaussian": _gaussian,
    "LJ": _lennard_jones,
    "LJ0804": _powers(8.0, 4.0),
    "LJ1208": _powers(12.0, 8.0),
    "LJGauss": _lennard_jones_gauss,
    "Mie": _mie,
    "Moliere": _screened((0.35, 0.3), (0.55, 1.2), (0.10, 6.0)),
    "Morse": _morse,
    "OPP": _oscillating,
    "ReactionField": _reaction_field,
    "TWF": _ten_wolde_frenkel,
    "Yukawa": _yukawa,
    "ZBL": _screened((0.1818, 3.2), (0.5099, 0.9423), (0.2802, 0.4029), (0.02817, 0.2016)),
}
"""V(r) of the classes of ``hoomd.md.pair``, by name; formulas as in HOOMD-blue's documentation."""
