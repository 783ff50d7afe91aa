"""Pair potentials and their derivatives with respect to the squared distance.

One object drives forces, Hessians and third and fourth derivatives, so that no parameter is typed twice. Another potential
is one subclass of :class:`PairPotential` registered under the entry point group ``qlm_hoomd.potentials``.
"""

# Array names carry their axes: p pairs, k order of the derivative, l power of w in the smoothing, t particle types
# (one t: pairs of types in the order of pairtype).

from __future__ import annotations

from abc import abstractmethod
from functools import lru_cache
from math import factorial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numba
import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from qlm_hoomd.numerics.laws import Function, ScaledLaw

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_ORDER = 4
# Smoothing polynomials are padded to this many coefficients, so that the compiled loop has a fixed length.
_MAX_COEFFICIENTS = 9


def _symmetric(value: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
    if not value or {len(row) for row in value} != {len(value)}:
        raise ValueError("expected a square matrix, one row for each particle type")
    matrix_tt = np.array(value)
    if not (np.isfinite(matrix_tt).all() and (matrix_tt > 0).all()):
        raise ValueError("expected a matrix of positive numbers")
    if not np.array_equal(matrix_tt, matrix_tt.T):
        raise ValueError("expected a symmetric matrix")
    return value


Matrix = Annotated[tuple[tuple[float, ...], ...], AfterValidator(_symmetric)]
"""A positive number for each pair of particle types, symmetric."""


class PairPotential(BaseModel):
    """A pair potential phi(r; type pair), cut off at a finite distance.

    Subclasses are pydantic models with a literal ``kind`` (the name in protocols), :meth:`cutoffs` and :meth:`derivatives`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    @abstractmethod
    def cutoffs(self) -> NDArray[np.float64]:
        """((T, T) ndarray) symmetric matrix of cut-off distances [length] of the T particle types."""

    @abstractmethod
    def derivatives(self, r2_p: NDArray[np.float64], pairtype_p: NDArray[np.uint8], order: int) -> NDArray[np.float64]:
        """Energy and its derivatives with respect to w = r^2.

        Args:
            r2_p: ((P,) ndarray) squared distances [length^2].
            pairtype_p: ((P,) ndarray of uint8) type of the first particle * T + type of the second.
            order: highest derivative, 0 to 4.

        Returns:
            ((order + 1, P) ndarray) d^k phi / dw^k [energy / length^(2k)]; zero beyond the cut-off.
        """

    def scaled_law(self) -> ScaledLaw | None:
        """Energy and force as a law that compiled loops can hold, which makes molecular dynamics many times as quick.

        None where there is no such law; :meth:`derivatives` gives the forces then.
        """
        return None

    def diameters(self) -> NDArray[np.float64]:
        """((T,) ndarray) size of a particle of each type in a picture [length]; the physics does not use it."""
        return np.diagonal(self.cutoffs()).copy()

    @property
    def n_types(self) -> int:
        """Number of particle types T."""
        return len(self.cutoffs())

    @property
    def largest_cutoff(self) -> float:
        """Largest cut-off distance of all type pairs [length]."""
        return float(self.cutoffs().max())


class InversePowerLaw(PairPotential):
    """The inverse power law, smoothed at its cut-off up to the q-th derivative.

    phi(r) = epsilon [ (lambda/r)^n + sum_{l=0}^{q} c_{2l} (r/lambda)^{2l} ] for r < x_c lambda, else 0, with
    c_{2l} = (-1)^{l+1} / ((2q-2l)!! (2l)!!) (n+2q)!! / ((n-2)!! (n+2l)) x_c^{-(n+2l)}.
    Source: Lerner, J. Non-Cryst. Solids 522, 119570 (2019). For q = 3 the fourth derivative jumps at the cut-off.
    """

    kind: Literal["inverse_power_law"] = "inverse_power_law"
    epsilon: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(default=1.0, description="energy scale [energy]")
    n: Annotated[int, Field(ge=1, le=64)] = Field(description="exponent of the repulsion")
    q: Annotated[int, Field(ge=0, lt=_MAX_COEFFICIENTS)] = Field(description="highest derivative that vanishes at the cut-off")
    x_c: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(description="cut-off in units of the pair length")
    lengths: Matrix = Field(description="symmetric matrix of pair lengths lambda [length]")

    @property
    def coefficients(self) -> NDArray[np.float64]:
        """((q + 1,) ndarray) the smoothing coefficients c_0, c_2, ..., c_2q."""
        return _smoothing(self.n, self.q, self.x_c)

    def cutoffs(self) -> NDArray[np.float64]:
        """((T, T) ndarray) x_c times the pair lengths [length]."""
        return self.x_c * np.array(self.lengths, dtype=np.float64)

    def diameters(self) -> NDArray[np.float64]:
        """((T,) ndarray) the pair lengths of like particles [length]."""
        return np.diagonal(self.lengths).copy()

    def derivatives(self, r2_p: NDArray[np.float64], pairtype_p: NDArray[np.uint8], order: int) -> NDArray[np.float64]:
        """See :meth:`PairPotential.derivatives`."""
        inverse_length2, power_k, polynomial_kl = _tables(self.epsilon, self.n, self.q, self.x_c, self.lengths)
        out_kp = np.empty((order + 1, len(r2_p)))
        if order == 1 and self.n == 10 and self.q <= 3:
            # What every force call of the paper's glass needs; the loop below it vectorises, the general one does not.
            _ipl10_force(r2_p, pairtype_p, inverse_length2, self.x_c**2, power_k, polynomial_kl, out_kp)
        else:
            _ipl_derivatives(r2_p, pairtype_p, inverse_length2, self.x_c**2, self.n, power_k, polynomial_kl, out_kp)
        return out_kp

    def scaled_law(self) -> ScaledLaw:
        """See :meth:`PairPotential.scaled_law`."""
        inverse_length2, power_k, polynomial_kl = _tables(self.epsilon, self.n, self.q, self.x_c, self.lengths)
        short = self.n == 10 and self.q <= 3
        function = Function(_ipl10_law if short else _ipl_law)
        first = () if short else (self.n % 2, self.n // 2)
        constants = (*first, *power_k[:2], *polynomial_kl[0, : 4 if short else None], *polynomial_kl[1, : 3 if short else None])
        return ScaledLaw(function, tuple(map(float, constants)), inverse_length2, None, self.x_c**2)


# Cached by value and outside the model, whose comparison and copies must see nothing but its fields.
@lru_cache(maxsize=32)
def _smoothing(n: int, q: int, x_c: float) -> NDArray[np.float64]:
    """The coefficients c_2l of :class:`InversePowerLaw`, read-only."""
    prefactor = _double_factorial(n + 2 * q) / _double_factorial(n - 2)
    coefficients = np.array(
        [
            (-1) ** (power + 1)
            / (_double_factorial(2 * q - 2 * power) * _double_factorial(2 * power))
            * prefactor
            / (n + 2 * power)
            * x_c ** -(n + 2 * power)
            for power in range(q + 1)
        ]
    )
    coefficients.flags.writeable = False
    return coefficients


@lru_cache(maxsize=32)
def _tables(
    epsilon: float, n: int, q: int, x_c: float, lengths: tuple[tuple[float, ...], ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Inverse squared pair lengths by pair type, factors of the power law and of the polynomial by order."""
    coefficients = _smoothing(n, q, x_c)
    inverse_length2 = 1.0 / np.array(lengths, dtype=np.float64).ravel() ** 2
    power_k = np.empty(MAX_ORDER + 1)
    polynomial_kl = np.zeros((MAX_ORDER + 1, _MAX_COEFFICIENTS))
    for order in range(MAX_ORDER + 1):
        power_k[order] = _falling(n, order)
        polynomial_kl[order, : max(q + 1 - order, 0)] = _differentiated(coefficients, order)
    return inverse_length2, epsilon * power_k, epsilon * polynomial_kl


def _falling(n: int, order: int) -> float:
    """Factor of the derivative of w^(-n/2): (-1)^k n/2 (n/2 + 1) ... (n/2 + k - 1)."""
    return (-1) ** order * float(np.prod([0.5 * n + step for step in range(order)], initial=1.0))


def _differentiated(coefficients_l: NDArray[np.float64], order: int) -> list[float]:
    """Coefficients of the ``order``-th derivative of a polynomial."""
    return [coefficients_l[power] * factorial(power) / factorial(power - order) for power in range(order, len(coefficients_l))]


def _double_factorial(number: int) -> float:
    return float(np.prod(np.arange(number, 0, -2, dtype=np.float64)))


_FAST = {"contract", "reassoc", "nsz", "arcp"}


@numba.njit(cache=True, fastmath=_FAST, error_model="numpy")
def _power(inverse: float, n: int) -> float:
    """w^(-n/2) from 1/w."""
    power = np.sqrt(inverse) if n % 2 else 1.0
    for _ in range(n // 2):
        power *= inverse
    return power


@numba.njit(cache=True, fastmath=_FAST, error_model="numpy")
def _ipl_derivatives(
    r2_p: NDArray[np.float64],
    pairtype_p: NDArray[np.uint8],
    inverse_length2: NDArray[np.float64],
    cutoff2: float,
    n: int,
    power_k: NDArray[np.float64],
    polynomial_kl: NDArray[np.float64],
    out_kp: NDArray[np.float64],
) -> None:
    """d^k phi / dw^k of the smoothed power law; see :class:`InversePowerLaw`."""
    for pair in range(len(r2_p)):
        scale = inverse_length2[pairtype_p[pair]]
        w = r2_p[pair] * scale
        inverse = 1.0 / w
        power = _power(inverse, n)
        factor = 1.0
        for order in range(len(out_kp)):
            polynomial = polynomial_kl[order, _MAX_COEFFICIENTS - 1]
            for index in range(_MAX_COEFFICIENTS - 2, -1, -1):
                polynomial = polynomial * w + polynomial_kl[order, index]
            out_kp[order, pair] = factor * (power_k[order] * power + polynomial) if w < cutoff2 else 0.0
            power *= inverse
            factor *= scale


@numba.njit(cache=True, fastmath=_FAST, error_model="numpy")
def _ipl10_force(
    r2_p: NDArray[np.float64],
    pairtype_p: NDArray[np.uint8],
    inverse_length2: NDArray[np.float64],
    cutoff2: float,
    power_k: NDArray[np.float64],
    polynomial_kl: NDArray[np.float64],
    out_kp: NDArray[np.float64],
) -> None:
    """phi and d phi / dw for n = 10 and q <= 3."""
    a0, a1, a2, a3 = polynomial_kl[0, 0], polynomial_kl[0, 1], polynomial_kl[0, 2], polynomial_kl[0, 3]
    b0, b1, b2 = polynomial_kl[1, 0], polynomial_kl[1, 1], polynomial_kl[1, 2]
    k0, k1 = power_k[0], power_k[1]
    energy_p, slope_p = out_kp[0], out_kp[1]
    # Two loops, because one that looks the length up does not vectorise; four times faster.
    for pair in range(len(r2_p)):
        slope_p[pair] = inverse_length2[pairtype_p[pair]]
    for pair in range(len(r2_p)):
        scale = slope_p[pair]
        w = r2_p[pair] * scale
        inverse = 1.0 / w
        square = inverse * inverse
        power = square * square * inverse
        energy = k0 * power + (((a3 * w + a2) * w + a1) * w + a0)
        slope = (k1 * power * inverse + ((b2 * w + b1) * w + b0)) * scale
        energy_p[pair] = energy if w < cutoff2 else 0.0
        slope_p[pair] = slope if w < cutoff2 else 0.0


def _ipl10_law(w: Any, c: tuple[float, ...]) -> tuple[Any, Any]:
    """f and df/dw of the smoothed power law for n = 10 and q <= 3."""
    inverse = 1.0 / w
    square = inverse * inverse
    power = square * square * inverse
    energy = c[0] * power + (((c[5] * w + c[4]) * w + c[3]) * w + c[2])
    return energy, c[1] * power * inverse + ((c[8] * w + c[7]) * w + c[6])


def _ipl_law(w: Any, c: tuple[float, ...]) -> tuple[Any, Any]:
    """f and df/dw of the smoothed power law, for any n and q."""
    inverse = 1.0 / w
    power = np.sqrt(inverse) if c[0] > 0.0 else 0.0 * w + 1.0
    for _ in range(int(c[1])):
        power = power * inverse
    energy, slope = 0.0 * w, 0.0 * w
    for index in range(_MAX_COEFFICIENTS):
        energy = energy * w + c[3 + _MAX_COEFFICIENTS - index]
        slope = slope * w + c[3 + 2 * _MAX_COEFFICIENTS - index]
    return c[2] * power + energy, c[3] * power * inverse + slope


class LennardJones(PairPotential):
    """Lennard-Jones and, with other exponents, Mie potentials, smoothed at the cut-off up to the q-th derivative.

    phi(r) = C epsilon [ S_n(r/sigma) - S_m(r/sigma) ] for r < x_c sigma, else 0, where S_k(x) = x^-k + sum_{l=0}^{q} c_{2l} x^{2l}
    is the smoothed power law of :class:`InversePowerLaw` and C = n/(n-m) (n/m)^(m/(n-m)) makes the well epsilon deep before
    smoothing: C = 4 for 12-6. Source: Mie, Ann. Phys. 316, 657 (1903). q = 0 is cut and shifted (HOOMD-blue's ``shift``), whose
    force jumps at the cut-off; q = 2 keeps the Hessian continuous, q = 4 chi too.
    """

    kind: Literal["lennard_jones"] = "lennard_jones"
    epsilon: Matrix = Field(description="symmetric matrix of well depths [energy]")
    sigma: Matrix = Field(description="symmetric matrix of the distances where the unsmoothed energy is zero [length]")
    x_c: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(default=2.5, description="cut-off in units of sigma")
    q: Annotated[int, Field(ge=0, lt=_MAX_COEFFICIENTS)] = Field(
        description="highest derivative that vanishes at the cut-off; 0: cut and shifted"
    )
    n: Annotated[int, Field(ge=2, le=64)] = Field(default=12, description="exponent of the repulsion")
    m: Annotated[int, Field(ge=1, le=63)] = Field(default=6, description="exponent of the attraction")

    @model_validator(mode="after")
    def _consistent(self) -> LennardJones:
        if self.n <= self.m:
            raise ValueError(f"n = {self.n}, m = {self.m}; expected a repulsion steeper than the attraction, n > m")
        if len(self.epsilon) != len(self.sigma):
            raise ValueError(
                f"epsilon is for {len(self.epsilon)} particle types, sigma for {len(self.sigma)}; expected the same number"
            )
        return self

    def cutoffs(self) -> NDArray[np.float64]:
        """((T, T) ndarray) x_c times sigma [length]."""
        return self.x_c * np.array(self.sigma, dtype=np.float64)

    def diameters(self) -> NDArray[np.float64]:
        """((T,) ndarray) sigma of like particles [length]."""
        return np.diagonal(self.sigma).copy()

    def derivatives(self, r2_p: NDArray[np.float64], pairtype_p: NDArray[np.uint8], order: int) -> NDArray[np.float64]:
        """See :meth:`PairPotential.derivatives`."""
        repulsion_k, attraction_k, polynomial_kl = _mie_tables(self.n, self.m, self.q, self.x_c)
        epsilon_t = np.array(self.epsilon, dtype=np.float64).ravel()
        inverse_sigma2_t = 1.0 / np.array(self.sigma, dtype=np.float64).ravel() ** 2
        out_kp = np.empty((order + 1, len(r2_p)))
        _mie_derivatives(
            r2_p, pairtype_p, epsilon_t, inverse_sigma2_t, self.x_c**2, self.n, self.m,
            repulsion_k, attraction_k, polynomial_kl, out_kp,
        )  # fmt: skip
        return out_kp

    def scaled_law(self) -> ScaledLaw:
        """See :meth:`PairPotential.scaled_law`."""
        repulsion_k, attraction_k, polynomial_kl = _mie_tables(self.n, self.m, self.q, self.x_c)
        powers = (self.n % 2, self.n // 2, self.m % 2, self.m // 2, *repulsion_k[:2], *attraction_k[:2])
        inverse_sigma2_t = 1.0 / np.array(self.sigma, dtype=np.float64).ravel() ** 2
        epsilon_t = np.array(self.epsilon, dtype=np.float64).ravel()
        constants = tuple(map(float, (*powers, *polynomial_kl[0], *polynomial_kl[1])))
        return ScaledLaw(Function(_mie_law), constants, inverse_sigma2_t, epsilon_t, self.x_c**2)


class KobAndersen(LennardJones):
    """The binary Lennard-Jones glass former of Kob and Andersen, PRE 51, 4626 (1995): 80 % A, 20 % B at density 1.2."""

    kind: Literal["kob_andersen"] = "kob_andersen"  # type: ignore[assignment]  # a kind of its own, by design of the registry
    epsilon: Matrix = Field(default=((1.0, 1.5), (1.5, 0.5)), description="symmetric matrix of well depths [energy]")
    sigma: Matrix = Field(
        default=((1.0, 0.8), (0.8, 0.88)),
        description="symmetric matrix of the distances where the unsmoothed energy is zero [length]",
    )


@lru_cache(maxsize=32)
def _mie_tables(n: int, m: int, q: int, x_c: float) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Factors of both powers and of the polynomial by order, in units of epsilon and sigma."""
    depth = n / (n - m) * (n / m) ** (m / (n - m))
    coefficients_l = depth * (_smoothing(n, q, x_c) - _smoothing(m, q, x_c))
    polynomial_kl = np.zeros((MAX_ORDER + 1, _MAX_COEFFICIENTS))
    for order in range(MAX_ORDER + 1):
        polynomial_kl[order, : max(q + 1 - order, 0)] = _differentiated(coefficients_l, order)
    orders = range(MAX_ORDER + 1)
    repulsion_k = depth * np.array([_falling(n, order) for order in orders])
    attraction_k = -depth * np.array([_falling(m, order) for order in orders])
    return repulsion_k, attraction_k, polynomial_kl


@numba.njit(cache=True, fastmath=_FAST, error_model="numpy")
def _mie_derivatives(
    r2_p: NDArray[np.float64],
    pairtype_p: NDArray[np.uint8],
    epsilon_t: NDArray[np.float64],
    inverse_sigma2_t: NDArray[np.float64],
    cutoff2: float,
    n: int,
    m: int,
    repulsion_k: NDArray[np.float64],
    attraction_k: NDArray[np.float64],
    polynomial_kl: NDArray[np.float64],
    out_kp: NDArray[np.float64],
) -> None:
    """d^k phi / dw^k of :class:`LennardJones`."""
    for pair in range(len(r2_p)):
        scale = inverse_sigma2_t[pairtype_p[pair]]
        w = r2_p[pair] * scale
        inverse = 1.0 / w
        attraction = _power(inverse, m)
        repulsion = _power(inverse, n)
        factor = epsilon_t[pairtype_p[pair]]
        for order in range(len(out_kp)):
            polynomial = polynomial_kl[order, _MAX_COEFFICIENTS - 1]
            for index in range(_MAX_COEFFICIENTS - 2, -1, -1):
                polynomial = polynomial * w + polynomial_kl[order, index]
            value = repulsion_k[order] * repulsion + attraction_k[order] * attraction + polynomial
            out_kp[order, pair] = factor * value if w < cutoff2 else 0.0
            repulsion *= inverse
            attraction *= inverse
            factor *= scale


def _mie_law(w: Any, c: tuple[float, ...]) -> tuple[Any, Any]:
    """f and df/dw of :class:`LennardJones`."""
    inverse = 1.0 / w
    root = np.sqrt(inverse)
    repulsion = root if c[0] > 0.0 else 0.0 * w + 1.0
    for _ in range(int(c[1])):
        repulsion = repulsion * inverse
    attraction = root if c[2] > 0.0 else 0.0 * w + 1.0
    for _ in range(int(c[3])):
        attraction = attraction * inverse
    energy, slope = 0.0 * w, 0.0 * w
    for index in range(_MAX_COEFFICIENTS):
        energy = energy * w + c[7 + _MAX_COEFFICIENTS - index]
        slope = slope * w + c[7 + 2 * _MAX_COEFFICIENTS - index]
    energy = c[4] * repulsion + c[6] * attraction + energy
    return energy, (c[5] * repulsion + c[7] * attraction) * inverse + slope


class _SoftSphere(PairPotential):
    """Spheres that repel where they overlap: phi(r) = epsilon / alpha (1 - r/sigma)^alpha for r < sigma, else 0.

    Source: O'Hern, Silbert, Liu, Nagel, PRE 68, 011306 (2003).
    """

    alpha: ClassVar[float]
    epsilon: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(default=1.0, description="energy scale [energy]")
    sigma: Matrix = Field(description="symmetric matrix of contact distances [length]")

    def cutoffs(self) -> NDArray[np.float64]:
        """((T, T) ndarray) contact distances [length]."""
        return np.array(self.sigma, dtype=np.float64)

    def derivatives(self, r2_p: NDArray[np.float64], pairtype_p: NDArray[np.uint8], order: int) -> NDArray[np.float64]:
        """See :meth:`PairPotential.derivatives`."""
        factor_k = np.empty(MAX_ORDER + 1)
        factor_k[0] = self.epsilon / self.alpha
        for step in range(MAX_ORDER):
            factor_k[step + 1] = factor_k[step] * (step - self.alpha)
        out_kp = np.empty((order + 1, len(r2_p)))
        _contact_derivatives(r2_p, pairtype_p, self.cutoffs().ravel(), self.alpha, factor_k, out_kp)
        return out_kp

    def scaled_law(self) -> ScaledLaw | None:
        """See :meth:`PairPotential.scaled_law`."""
        law = {2.0: _harmonic_law, 2.5: _hertzian_law}.get(self.alpha)
        return law and ScaledLaw(Function(law), (self.epsilon,), 1.0 / self.cutoffs().ravel() ** 2, None, 1.0)


def _harmonic_law(w: Any, c: tuple[float, ...]) -> tuple[Any, Any]:
    """f and df/dw of :class:`Harmonic`."""
    root = np.sqrt(w)
    overlap = 1.0 - root
    return 0.5 * c[0] * overlap * overlap, -0.5 * c[0] * overlap / root


def _hertzian_law(w: Any, c: tuple[float, ...]) -> tuple[Any, Any]:
    """f and df/dw of :class:`Hertzian`."""
    root = np.sqrt(w)
    overlap = 1.0 - root
    power = overlap * np.sqrt(overlap)
    return 0.4 * c[0] * power * overlap, -0.5 * c[0] * power / root


class Harmonic(_SoftSphere):
    """Harmonic spheres, phi = epsilon/2 (1 - r/sigma)^2: what foams are modelled with. The Hessian jumps where contacts form."""

    kind: Literal["harmonic"] = "harmonic"
    alpha: ClassVar[float] = 2.0


class Hertzian(_SoftSphere):
    """Hertzian spheres, phi = 2 epsilon/5 (1 - r/sigma)^(5/2): elastic grains, microgels.

    The third derivative diverges at contact, and with it kappa and chi of a mode that moves two particles that barely touch.
    """

    kind: Literal["hertzian"] = "hertzian"
    alpha: ClassVar[float] = 2.5


@numba.njit(cache=True, fastmath=_FAST, error_model="numpy")
def _contact_derivatives(
    r2_p: NDArray[np.float64],
    pairtype_p: NDArray[np.uint8],
    sigma_t: NDArray[np.float64],
    alpha: float,
    factor_k: NDArray[np.float64],
    out_kp: NDArray[np.float64],
) -> None:
    """d^k phi / dw^k of :class:`_SoftSphere`, from the derivatives g_k with respect to r by d/dw = 1/(2r) d/dr."""
    n_orders = len(out_kp)
    for pair in range(len(r2_p)):
        sigma = sigma_t[pairtype_p[pair]]
        r = np.sqrt(r2_p[pair])
        overlap = 1.0 - r / sigma
        if not overlap > 0.0:
            for order in range(n_orders):
                # A distance that is not a number stays one: a blown-up state must be seen.
                out_kp[order, pair] = 0.0 if overlap <= 0.0 else np.nan
            continue
        inverse = 1.0 / r
        power = overlap**alpha
        g0 = factor_k[0] * power
        power /= overlap * sigma
        g1 = factor_k[1] * power
        power /= overlap * sigma
        g2 = factor_k[2] * power
        out_kp[0, pair] = g0
        if n_orders > 1:
            out_kp[1, pair] = 0.5 * inverse * g1
        if n_orders > 2:
            out_kp[2, pair] = 0.25 * inverse**2 * (g2 - g1 * inverse)
        if n_orders > 3:
            power /= overlap * sigma
            g3 = factor_k[3] * power
            out_kp[3, pair] = 0.125 * inverse**3 * (g3 + 3.0 * inverse * (g1 * inverse - g2))
            if n_orders > 4:
                g4 = factor_k[4] * power / (overlap * sigma)
                bracket = g4 + inverse * (15.0 * inverse * (g2 - g1 * inverse) - 6.0 * g3)
                out_kp[4, pair] = 0.0625 * inverse**4 * bracket
