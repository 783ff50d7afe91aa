"""The pair force, as HOOMD-blue's own pair forces look."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Final

import hoomd
import hoomd.md
from hoomd.data.parameterdicts import TypeParameterDict
from hoomd.data.typeconverter import OnlyTypes
from hoomd.data.typeparam import TypeParameter

from qlm_hoomd_ipl.build import REINSTALL, IncompatibleHOOMDError

try:
    # After hoomd.md: the loader finds HOOMD's libraries among those that are already there.
    from qlm_hoomd_ipl import _ipl
except ImportError as error:
    raise IncompatibleHOOMDError(
        f"the compiled code of qlm_hoomd_ipl does not load ({error}), though HOOMD-blue's version and flags are those it was "
        f"compiled for; the libraries beneath them differ. {REINSTALL}."
    ) from error

LARGEST_EXPONENT: Final = 64
LARGEST_SMOOTHING: Final = 8


def coefficients(n: int, smooth: int, x_cut: float) -> list[float]:
    """The smoothing coefficients c_0, c_2, ..., c_2q (q = ``smooth``) as the compiled code uses them.

    Source: Lerner, J. Non-Cryst. Solids 522, 119570 (2019).

    Raises:
        ValueError: if a number is out of range.
    """
    return list(_ipl.coefficients(_exponent(n), _smoothing(smooth), _positive(x_cut)))


class InversePowerLaw(hoomd.md.pair.Pair):  # type: ignore[misc]  # HOOMD ships no types
    r"""Inverse power law, smoothed at its cut-off.

    .. math::
        U(r) = \varepsilon \left[ x^{-n} + \sum_{l=0}^{q} c_{2l} x^{2l} \right], \quad x = r / \sigma < x_c

    and 0 beyond. The :math:`c_{2l}` make U and its first q derivatives vanish at :math:`x_c`, so that no energy shifting mode
    is needed or offered.

    Args:
        nlist (hoomd.md.nlist.NeighborList): Neighbor list.
        n (int): Default exponent, even, 2 to 64.
        smooth (int): Default smoothing order q, 0 to 8: the highest derivative that vanishes at the cut-off.
        default_x_cut (float): Default cut-off in units of sigma :math:`[\mathrm{dimensionless}]`.

    .. py:attribute:: params

        The potential parameters. The dictionary has the following keys:

        * ``epsilon`` (`float`, **required**) - energy scale :math:`[\mathrm{energy}]`, not negative; 0 switches the pair off
        * ``sigma`` (`float`, **required**) - pair length :math:`[\mathrm{length}]`, positive
        * ``n`` (`int`), ``smooth`` (`int`), ``x_cut`` (`float`) - as above, if this pair of types differs from the default

        Type: `TypeParameter` [`tuple` [``particle_type``, ``particle_type``], `dict`]

    Example::

        ipl = qlm_hoomd_ipl.InversePowerLaw(nlist=hoomd.md.nlist.Cell(buffer=0.3), n=10, smooth=3, default_x_cut=1.48)
        ipl.params[("A", "A")] = dict(epsilon=1.0, sigma=1.0)
    """

    _ext_module = _ipl
    _cpp_class_name = "PotentialPairIPL"
    _accepted_modes = ("none",)

    def __init__(self, nlist: hoomd.md.nlist.NeighborList, n: int = 10, smooth: int = 3, default_x_cut: float = 1.48) -> None:
        super().__init__(nlist, default_r_cut=None, default_r_on=0.0, mode="none")
        # The cut-off follows from the parameters (src/module.cc); HOOMD's own per-pair r_cut would contradict it.
        del self._typeparam_dict["r_cut"]
        params = TypeParameter(
            "params",
            "particle_types",
            TypeParameterDict(
                epsilon=OnlyTypes(Real, strict=True, postprocess=_not_negative),
                sigma=OnlyTypes(Real, strict=True, postprocess=_positive),
                n=OnlyTypes(Integral, strict=True, postprocess=_exponent),
                smooth=OnlyTypes(Integral, strict=True, postprocess=_smoothing),
                x_cut=OnlyTypes(Real, strict=True, postprocess=_positive),
                len_keys=2,
                _defaults={"n": _exponent(n), "smooth": _smoothing(smooth), "x_cut": _positive(default_x_cut)},
            ),
        )
        self._add_typeparam(params)

    @property
    def r_cut(self) -> dict[tuple[str, str], float]:
        """Cut-off distance of each type pair that has parameters, x_cut sigma [length]. Set it through ``params``."""
        return {pair: params["x_cut"] * params["sigma"] for pair, params in self.params.to_base().items()}


def _positive(value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{value}; expected a positive number")
    return float(value)


def _not_negative(value: float) -> float:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{value}; expected a number that is not negative")
    return float(value)


def _exponent(value: int) -> int:
    if value % 2 or not 2 <= value <= LARGEST_EXPONENT:
        raise ValueError(f"n = {value}; expected an even exponent from 2 to {LARGEST_EXPONENT}")
    return int(value)


def _smoothing(value: int) -> int:
    if not 0 <= value <= LARGEST_SMOOTHING:
        raise ValueError(f"smooth = {value}; expected a smoothing order from 0 to {LARGEST_SMOOTHING}")
    return int(value)
