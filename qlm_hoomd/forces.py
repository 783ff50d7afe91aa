"""The law behind a pair force of HOOMD-blue: what a Hessian, a fold and `qlm modes` need of it, with nothing typed twice.

    lj = hoomd.md.pair.LJ(nlist=hoomd.md.nlist.Cell(buffer=0.4), default_r_cut=2.5, mode="xplor", default_r_on=2.0)
    lj.params[("A", "A")] = dict(epsilon=1.0, sigma=1.0)
    hessian = qlm_hoomd.Hessian(potential_of(lj)).compute(glass)

Importing this module raises :class:`~qlm_hoomd.base.errors.InputError` where HOOMD-blue is not installed.
"""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any

from qlm_hoomd.base.errors import InputError
from qlm_hoomd.pair import InversePowerLaw, types_of
from qlm_hoomd.potentials.hoomd_laws import LAWS, HOOMDPotential, SumPotential

# After qlm_hoomd.pair, which says what to do where it is missing.
import hoomd  # isort: skip
import hoomd.md  # isort: skip

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qlm_hoomd.potentials import PairPotential

# Why a force has no potential that depends on the distance alone, or none that can be differentiated.
_NO_POTENTIAL = {
    "DPD": "its friction and noise depend on velocities; DPDConservative is its conservative part",
    "DPDLJ": "its friction and noise depend on velocities; LJ is its conservative part",
    "Ewald": "it depends on the particles' charges and is one half of a long-ranged force",
    "Table": "it is interpolated linearly, so that its Hessian does not exist; take the analytic force, or fit one",
}


def potential_of(*forces: Any, types: Sequence[str] | None = None) -> PairPotential:
    """The potential of one or several pair forces of HOOMD-blue, whose sum acts.

    Args:
        forces: :class:`qlm_hoomd.pair.InversePowerLaw`, or forces of ``hoomd.md.pair`` that depend on the distance alone, in
            any of their modes.
        types: names of the particle types 0, 1, ...; by default those of the simulation that the forces are in, or before
            that the names among their parameters in alphabetical order.

    Raises:
        InputError: if a force has no such potential, or a pair of types no parameters.
    """
    if not forces:
        raise InputError("no forces; expected at least one pair force, e.g. potential_of(lj).")
    for force in forces:
        reason = why_unknown(force)
        if reason is not None:
            raise InputError(
                f"{type(force).__name__} has no potential for a Hessian: {reason}. Expected qlm_hoomd.pair.InversePowerLaw or "
                f"some of hoomd.md.pair's {', '.join(LAWS)}."
            )
    names = list(types) if types is not None else types_of(forces)
    terms = [_term(force, names) for force in forces]
    return terms[0] if len(terms) == 1 else SumPotential(terms=tuple(terms))


def why_unknown(force: Any) -> str | None:
    """Why :func:`potential_of` knows no potential of this force; None if it does."""
    kind = type(force)
    name = kind.__name__
    if isinstance(force, InversePowerLaw):
        return None
    if kind.__module__.split(".")[0] != "hoomd" or not isinstance(force, hoomd.md.pair.Pair):
        return "it is none of hoomd.md.pair that depends on the distance alone"
    if name not in LAWS:
        return _NO_POTENTIAL.get(name, "its law is not known here")
    if getattr(force, "tail_correction", False):
        return "tail_correction adds a constant that no pair has; switch it off"
    return None


def _term(force: Any, types: Sequence[str]) -> PairPotential:
    if isinstance(force, InversePowerLaw):
        return force.potential_for(types)
    pairs = [[(a, b) for b in types] for a in types]
    parameters = {pair: _numbers(force, pair) for row in pairs for pair in row}
    return HOOMDPotential(
        law=type(force).__name__,
        mode=force.mode,
        r_cut=tuple(tuple(_length(force, "r_cut", pair) for pair in row) for row in pairs),
        r_on=tuple(tuple(_length(force, "r_on", pair) for pair in row) for row in pairs) if force.mode == "xplor" else None,
        parameters={
            name: tuple(tuple(parameters[pair][name] for pair in row) for row in pairs) for name in parameters[pairs[0][0]]
        },
    )


def _numbers(force: Any, pair: tuple[str, str]) -> dict[str, float]:
    """The parameters of a pair of types by name; the series a and b of Fourier by a name for each."""
    numbers: dict[str, float] = {}
    for name, value in force.params[pair].items():
        if name == "use_charge":
            if value:
                raise InputError(
                    f"ReactionField with use_charge for the types {pair}; expected a force that depends on the distance alone. "
                    "Set use_charge=False."
                )
        elif isinstance(value, Real):
            numbers[name] = float(value)
        elif isinstance(value, type):  # HOOMD-blue's mark of what is missing
            raise InputError(
                f"{type(force).__name__} has no {name} for the types {pair}; expected force.params[{pair}] = dict(...)."
            )
        else:
            numbers |= {f"{name}{order}": float(each) for order, each in enumerate(value, start=2)}
    return numbers


def _length(force: Any, name: str, pair: tuple[str, str]) -> float:
    try:
        return float(getattr(force, name)[pair])
    except (KeyError, TypeError, ValueError, hoomd.error.TypeConversionError, hoomd.error.IncompleteSpecificationError):
        raise InputError(
            f"{type(force).__name__} has no {name} for the types {pair}; expected force.{name}[{pair}] = a distance, or "
            f"default_{name}."
        ) from None
