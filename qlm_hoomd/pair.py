"""The paper's pair force for HOOMD-blue: one object for HOOMD's integrators and for the Hessian.

    ipl = qlm_hoomd.pair.InversePowerLaw(nlist=hoomd.md.nlist.Cell(buffer=0.3), n=10, smooth=3, default_x_cut=1.48)
    ipl.params[("A", "A")] = dict(epsilon=1.0, sigma=1.0)
    integrator = hoomd.md.Integrator(dt=0.005, forces=[ipl], methods=[...])
    bonds = qlm_hoomd.mechanics.bonds_of(glass, ipl.potential)

HOOMD has no such potential of its own. Three ways give it one, the better first; ``repr`` and ``provenance`` say which is in
use:

* ``component``: the compiled evaluator of ``plugins/hoomd_ipl``, exact and fastest, CPU and GPU;
* ``mie``: the exact sum of some of HOOMD's own Mie potentials, nothing to compile, more than ten times slower on a CPU;
* ``table``: HOOMD's linearly interpolated table, accurate to some 1e-7 in force. It is never chosen by itself while HOOMD
  computes in double precision.

Importing this module raises :class:`~qlm_hoomd.base.errors.InputError` where HOOMD-blue is not installed.
"""

# Array names carry their axes: x table nodes, l powers of the smoothing polynomial.

# A force that holds others takes them into a simulation by HOOMD's underscore methods; there is no public way.
# ruff: noqa: SLF001

from __future__ import annotations

import importlib
import math
import string
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from itertools import combinations_with_replacement
from numbers import Real
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol, cast

import numpy as np
from pydantic import ValidationError

from qlm_hoomd import potentials
from qlm_hoomd.base.errors import InputError
from qlm_hoomd.model import PARAMETERS

try:
    import hoomd
    import hoomd.md
    from hoomd.data.parameterdicts import TypeParameterDict
    from hoomd.data.typeconverter import OnlyTypes
    from hoomd.data.typeparam import TypeParameter
except ImportError as error:
    raise InputError(
        f"HOOMD-blue cannot be imported ({error}); qlm_hoomd.pair is for HOOMD scripts. Install it from conda-forge "
        "(`conda install -c conda-forge hoomd`; it is not on PyPI), or use `engine: cpu`, which does the same job without it."
    ) from error

Backend = Literal["component", "mie", "table"]
TypePair = tuple[str, str]

# A Mie potential with an exponent of this size instead of the second one is a single power less a constant: m = 0 would divide
# zero by zero, and this is as good as zero in double precision.
_VANISHING = 1e-200

TABLE_WIDTH = 100_000
# The table begins where the energy is this many epsilon: no pair comes closer at any temperature of interest, and HOOMD's
# table has no force inside.
_TABLE_TOP = 1000.0


class MieTerm(NamedTuple):
    """Parameters of one of HOOMD's Mie potentials, for epsilon = sigma = 1."""

    n: float
    m: float
    epsilon: float
    sigma: float


def mie_terms(law: potentials.InversePowerLaw) -> tuple[MieTerm, ...]:
    """The Mie potentials whose sum, each shifted to zero at the cut-off, is the smoothed inverse power law with epsilon = sigma = 1.

    HOOMD's Mie potential is A [(s/r)^n - (s/r)^m] with A = epsilon n/(n-m) (n/m)^(m/(n-m)), and takes negative exponents.

    * The repulsion is n, m -> 0: epsilon [(s/r)^n - 1].
    * Neighbouring terms of the smoothing polynomial have opposite signs, so that two of them, C_a r^a + C_b r^b with b = a - 2,
      are the Mie potential of exponents -a and -b: s^2 = -C_b / C_a, and A = C_a s^a with A = epsilon (a/2) (a/b)^(b/2).
    * c_2 is left over for odd q: the exponents -2 and -0.

    The constants, c_0 among them, drop out with the shift, because the whole vanishes at the cut-off.
    """
    terms = [MieTerm(law.n, _VANISHING, 1.0, 1.0)]
    c_l = [float(value) for value in law.coefficients]
    power = law.q
    while power > 1:
        a, b = 2 * power, 2 * power - 2
        s = math.sqrt(-c_l[power - 1] / c_l[power])
        terms.append(MieTerm(-a, -b, c_l[power] * s**a / (0.5 * a * (a / b) ** (0.5 * b)), s))
        power -= 2
    if power == 1:
        terms.append(MieTerm(-2, -_VANISHING, c_l[1], 1.0))
    return tuple(terms)


class _Carrier(Protocol):
    """One way to compute the force: ``force`` is what HOOMD gets, ``terms`` are the HOOMD forces whose sum it is."""

    force: Any
    terms: list[Any]

    def set(self, pair: TypePair, epsilon: float, sigma: float) -> None:
        """Give a pair of types its parameters."""

    def describe(self) -> dict[str, Any]:
        """What provenance should know of this way beyond its name."""


class _Component:
    """The compiled evaluator."""

    def __init__(self, nlist: Any, law: potentials.InversePowerLaw) -> None:
        try:
            component = importlib.import_module("qlm_hoomd_ipl")
        except ModuleNotFoundError as error:
            if error.name != "qlm_hoomd_ipl":
                raise
            raise InputError(
                "qlm_hoomd_ipl is not installed; `pip install ./plugins/hoomd_ipl` in the qlm_hoomd checkout compiles it"
            ) from None
        except ImportError as error:
            raise InputError(str(error).rstrip(".")) from None
        self.force = component.InversePowerLaw(nlist, n=law.n, smooth=law.q, default_x_cut=law.x_c)
        self.terms = [self.force]
        self._build = component.BUILD

    def set(self, pair: TypePair, epsilon: float, sigma: float) -> None:
        self.force.params[pair] = {"epsilon": epsilon, "sigma": sigma}

    def describe(self) -> dict[str, Any]:
        return {"component": self._build}


class _Sum(hoomd.md.force.Custom):  # type: ignore[misc]  # HOOMD ships no types
    """The sum of several HOOMD forces as one force."""

    def __init__(self, terms: list[Any]) -> None:
        super().__init__()
        self._terms = terms

    def _attach_hook(self) -> None:
        for term in self._terms:
            term._attach(self._simulation)
        super()._attach_hook()

    def _detach_hook(self) -> None:
        for term in self._terms:
            term._detach()

    def set_forces(self, timestep: int) -> None:
        for term in self._terms:
            # Not through ``term.forces``: it asks for the simulation's own timestep, and integrators are one ahead of it.
            term._cpp_obj.compute(timestep)
        with self.cpu_local_force_arrays as total:
            sums = [np.asarray(array) for array in (total.force, total.potential_energy, total.virial)]
            for term in self._terms:
                with term.cpu_local_force_arrays as part:
                    for array, more in zip(sums, (part.force, part.potential_energy, part.virial), strict=True):
                        np.add(array, np.asarray(more), out=array)


class _Mie:
    """The sum of HOOMD's own Mie potentials; see :func:`mie_terms`."""

    def __init__(self, nlist: Any, law: potentials.InversePowerLaw) -> None:
        if hoomd.version.floating_point_precision[0] < 64:
            raise InputError(
                "this HOOMD-blue computes in single precision, in which the small exponents of the Mie sum are zero"
            )
        self._mie_terms = mie_terms(law)
        self._x_cut = law.x_c
        self.terms = [hoomd.md.pair.Mie(nlist, mode="shift") for _ in self._mie_terms]
        self.force = _Sum(self.terms)

    def set(self, pair: TypePair, epsilon: float, sigma: float) -> None:
        for force, term in zip(self.terms, self._mie_terms, strict=True):
            force.params[pair] = {"n": term.n, "m": term.m, "epsilon": epsilon * term.epsilon, "sigma": sigma * term.sigma}
            force.r_cut[pair] = self._x_cut * sigma

    def describe(self) -> dict[str, Any]:
        return {"mie_terms": [term._asdict() for term in self._mie_terms]}


class _Table:
    """HOOMD's table, interpolated linearly in r; energy and force separately, so that one is not exactly the other's slope."""

    def __init__(self, nlist: Any, law: potentials.InversePowerLaw) -> None:
        self._x_cut = law.x_c
        self._x_min = _TABLE_TOP ** (-1.0 / law.n)
        x_x = np.linspace(self._x_min, law.x_c, TABLE_WIDTH, endpoint=False)
        energy_x, slope_x = law.derivatives(x_x**2, np.zeros(TABLE_WIDTH, dtype=np.uint8), 1)
        self._energy_x, self._force_x = energy_x, -2.0 * x_x * slope_x
        self.force = hoomd.md.pair.Table(nlist)
        self.terms = [self.force]

    def set(self, pair: TypePair, epsilon: float, sigma: float) -> None:
        self.force.params[pair] = {
            "r_min": self._x_min * sigma,
            "U": epsilon * self._energy_x,
            "F": epsilon / sigma * self._force_x,
        }
        self.force.r_cut[pair] = self._x_cut * sigma

    def describe(self) -> dict[str, Any]:
        return {"table_width": TABLE_WIDTH, "table_x_min": self._x_min}


# In order of preference. A carrier that cannot be used here says why in an InputError.
_CARRIERS: dict[Backend, Any] = {"component": _Component, "mie": _Mie, "table": _Table}


class Parameters(MutableMapping[Any, Mapping[str, float]]):
    """``params`` of the force: epsilon [energy] and sigma [length] by pair of types, as HOOMD's own forces have them.

    Keys are pairs of type names in any order, or pairs of lists of them; values are whole dictionaries, which cannot be changed
    in place.
    """

    __slots__ = ("_carrier", "_set", "_typed")

    def __init__(self, carrier: _Carrier) -> None:
        self._carrier = carrier
        self._set: dict[TypePair, Mapping[str, float]] = {}
        positive = OnlyTypes(Real, strict=True, postprocess=_positive)
        # HOOMD's own mapping reads the keys and checks the values.
        self._typed = TypeParameter("params", "particle_types", TypeParameterDict(epsilon=positive, sigma=positive, len_keys=2))

    def __setitem__(self, key: Any, value: Mapping[str, float]) -> None:
        if set(value) != {"epsilon", "sigma"}:
            raise InputError(f"params[{key!r}] = {dict(value)}; expected epsilon and sigma, and nothing else.")
        self._typed[key] = dict(value)
        for pair, typed in self._typed.to_base().items():
            if self._set.get(pair) != typed:
                self._carrier.set(pair, typed["epsilon"], typed["sigma"])
                self._set[pair] = MappingProxyType(dict(typed))

    def __getitem__(self, key: Any) -> Mapping[str, float]:
        return self._set[cast("TypePair", tuple(sorted(key)))]

    def __delitem__(self, key: Any) -> None:
        raise TypeError("parameters of a pair force cannot be deleted; expected an assignment of others.")

    def __iter__(self) -> Iterator[TypePair]:
        return iter(self._set)

    def __len__(self) -> int:
        return len(self._set)

    def __repr__(self) -> str:
        return repr({pair: dict(values) for pair, values in self._set.items()})


def _positive(value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{value}; expected a positive number")
    return float(value)


class InversePowerLaw(hoomd.md.force.Force):  # type: ignore[misc]  # HOOMD ships no types
    """The smoothed inverse power law as a pair force of HOOMD-blue.

    It is one HOOMD force, whichever way it is computed: it goes into ``forces`` of an integrator or into
    ``simulation.operations.computes``, and has ``energy``, ``energies``, ``forces`` ((N, 3) ndarray [energy / length], by tag),
    ``virials`` and the rest of :class:`hoomd.md.force.Force`.

    Args:
        nlist: HOOMD's neighbour list, which may be shared with other forces.
        n: exponent of the repulsion, even.
        smooth: highest derivative q that vanishes at the cut-off.
        default_x_cut: cut-off of every pair of types in units of its sigma.
        backend: ``component``, ``mie`` or ``table``; ``auto`` takes the first of them that works here.

    Raises:
        InputError: if a number is out of range, or the backend asked for does not work here.
    """

    def __init__(
        self,
        nlist: Any,
        n: int = PARAMETERS["n"].value,
        smooth: int = PARAMETERS["q"].value,
        default_x_cut: float = PARAMETERS["x_c"].value,
        backend: Backend | Literal["auto"] = "auto",
    ) -> None:
        super().__init__()
        if not isinstance(nlist, hoomd.md.nlist.NeighborList):
            raise InputError(
                f"nlist = {nlist!r}; expected a neighbour list of HOOMD-blue, e.g. hoomd.md.nlist.Cell(buffer=0.12)."
            )
        try:
            self._law = potentials.InversePowerLaw.model_validate(
                {"n": n, "q": smooth, "x_c": default_x_cut, "lengths": ((1.0,),)}
            )
        except ValidationError as error:
            names = {"q": "smooth", "x_c": "default_x_cut"}
            problems = (f"{names.get(str(item['loc'][0]), item['loc'][0])}: {item['msg']}" for item in error.errors())
            raise InputError(
                f"{'; '.join(problems)} (got n = {n}, smooth = {smooth}, default_x_cut = {default_x_cut})."
            ) from None
        if n % 2:
            # The compiled component works in r^2 alone, and the three ways are to be the same force.
            raise InputError(f"n = {n}; expected an even exponent for HOOMD-blue. `engine: cpu` takes any.")
        self._backend, self._carrier, self._not_used = _choose(backend, nlist, self._law)
        self._nlist = nlist
        self._params = Parameters(self._carrier)

    @classmethod
    def from_potential(
        cls,
        potential: potentials.PairPotential,
        nlist: Any,
        types: Sequence[str] | None = None,
        backend: Backend | Literal["auto"] = "auto",
    ) -> InversePowerLaw:
        """The force of a potential of qlm_hoomd.

        Args:
            potential: the inverse power law, as protocols and the CPU engine have it.
            nlist: HOOMD's neighbour list.
            types: HOOMD's names of the particle types 0, 1, ...; default A, B, ...
            backend: as in the constructor.

        Raises:
            InputError: if the potential is no inverse power law, or the types do not match it.
        """
        if not isinstance(potential, potentials.InversePowerLaw):
            raise InputError(
                f"potential {type(potential).__name__}; expected an inverse power law, the only one with a pair force for "
                "HOOMD-blue. `engine: cpu` takes any potential."
            )
        names = tuple(types) if types is not None else tuple(string.ascii_uppercase[: potential.n_types])
        if len(set(names)) != potential.n_types or len(names) != potential.n_types:
            raise InputError(
                f"types = {list(names)}; expected {potential.n_types} different names, one per type of the potential."
            )
        force = cls(nlist, potential.n, potential.q, potential.x_c, backend)
        for i, a in enumerate(names):
            for j, b in enumerate(names[i:], start=i):
                force.params[(a, b)] = {"epsilon": potential.epsilon, "sigma": potential.lengths[i][j]}
        return force

    def __repr__(self) -> str:
        law = self._law
        why = "".join(f"; not {name}: {reason}" for name, reason in self._not_used.items())
        return (
            f"<InversePowerLaw n={law.n} smooth={law.q} x_cut={law.x_c} backend={self._backend!r} params={self.params!r}{why}>"
        )

    @property
    def params(self) -> Parameters:
        """Epsilon [energy] and sigma [length] by pair of types: ``ipl.params[("A", "B")] = dict(epsilon=1.0, sigma=1.18)``."""
        return self._params

    @property
    def nlist(self) -> Any:
        """The neighbour list."""
        return self._nlist

    @property
    def r_cut(self) -> dict[TypePair, float]:
        """Cut-off distance by pair of types [length]."""
        return {pair: self._law.x_c * values["sigma"] for pair, values in self.params.items()}

    @property
    def backend(self) -> Backend:
        """``component``, ``mie`` or ``table``."""
        return self._backend

    @property
    def provenance(self) -> dict[str, Any]:
        """How the force is computed, and why not better: plain data for JSON."""
        return {
            "pair_force": "inverse_power_law",
            "n": self._law.n,
            "smooth": self._law.q,
            "x_cut": self._law.x_c,
            "backend": self._backend,
            "not_used": dict(self._not_used),
            "hoomd": hoomd.version.version,
            **self._carrier.describe(),
        }

    @property
    def terms(self) -> list[Any]:
        """The HOOMD forces whose sum this force is: itself, or with ``mie`` the Mie potentials.

        An integrator may get these instead of the force itself, never both; the Mie potentials then stay on the GPU and are not
        summed in Python at every step.
        """
        return list(self._carrier.terms) if len(self._carrier.terms) > 1 else [self]

    @property
    def potential(self) -> potentials.InversePowerLaw:
        """The same potential for qlm_hoomd: Hessian, modes, the CPU engine.

        Type 0 is the first of the simulation's particle types, or before the force is in a simulation the first in the
        alphabet.

        Raises:
            InputError: if a pair of types has no parameters, or epsilon is not the same for all.
        """
        return self.potential_for(types_of([self]))

    def potential_for(self, types: Sequence[str]) -> potentials.InversePowerLaw:
        """The same as :attr:`potential` with these names as types 0, 1, ...; raises what that does."""
        self._require(types)
        epsilons = sorted({values["epsilon"] for values in self.params.values()})
        if len(epsilons) != 1:
            raise InputError(f"epsilon = {epsilons}; expected one value for all pairs of types, as the Hessian knows only one.")
        lengths = tuple(tuple(self.params[(a, b)]["sigma"] for b in types) for a in types)
        law = self._law
        return potentials.InversePowerLaw(epsilon=epsilons[0], n=law.n, q=law.q, x_c=law.x_c, lengths=lengths)

    def _require(self, types: Sequence[str]) -> None:
        missing = [(a, b) for i, a in enumerate(types) for b in types[i:] if tuple(sorted((a, b))) not in self.params]
        if missing or not types:
            raise InputError(
                f"no parameters for the pairs of types {missing}; expected all of them: "
                "ipl.params[('A', 'B')] = dict(epsilon=1.0, sigma=1.18)."
            )

    # HOOMD calls these two when the force enters and leaves a simulation.

    def _attach_hook(self) -> None:
        self._require(self._simulation.state.particle_types)
        check_room(self._simulation, [self])
        self._carrier.force._attach(self._simulation)
        self._cpp_obj = self._carrier.force._cpp_obj

    def _detach_hook(self) -> None:
        self._carrier.force._detach()


def types_of(forces: Sequence[Any]) -> list[str]:
    """Names of the particle types of the simulation that forces are in; before that, those among their parameters, sorted."""
    for term in (term for force in forces for term in (force, *getattr(force, "terms", ()))):
        if term._attached:
            return list(term._simulation.state.particle_types)
    return sorted({name for force in forces for pair in force.params for name in pair})


def check_room(simulation: Any, forces: Sequence[Any]) -> None:
    """Refuse a box that is too small for the cut-off of a pair force, before HOOMD-blue finds out inside a run.

    Args:
        simulation: a hoomd.Simulation with a state.
        forces: HOOMD forces; those without a neighbour list have no say.

    Raises:
        InputError: if opposite faces are closer than twice the longest cut-off and the buffer of its list.
    """
    box = simulation.state.box
    # Distances of opposite faces of a triclinic box; a plane has no third one.
    faces = [box.Lx / math.hypot(1.0, box.xy, box.xy * box.yz - box.xz), box.Ly / math.hypot(1.0, box.yz)]
    narrowest = min(faces if box.is2D else [*faces, box.Lz])
    for force in forces:
        nlist = getattr(force, "nlist", None)
        r_cut = getattr(force, "r_cut", None)
        if nlist is None or r_cut is None:
            continue
        try:
            longest = max(
                float(r_cut[pair]) for pair in combinations_with_replacement(sorted(simulation.state.particle_types), 2)
            )
        except (KeyError, TypeError, ValueError, hoomd.error.IncompleteSpecificationError):
            # Parameters that are missing: HOOMD-blue says so itself.
            continue
        if narrowest < 2.0 * (longest + nlist.buffer):
            raise InputError(
                f"opposite faces of the box are {narrowest:.4g} apart and the longest cut-off is {longest:.4g}, the buffer "
                f"of its neighbour list {nlist.buffer:g}; expected at least twice their sum, "
                f"{2.0 * (longest + nlist.buffer):.4g}. Use more particles, a shorter cut-off or a smaller buffer."
            )


def _choose(
    backend: Backend | Literal["auto"], nlist: Any, law: potentials.InversePowerLaw
) -> tuple[Backend, _Carrier, dict[Backend, str]]:
    """The carrier for this backend, or the best that works, and why those before it do not."""
    if backend != "auto" and backend not in _CARRIERS:
        raise InputError(f"backend = {backend!r}; expected auto, {', '.join(_CARRIERS)}.")
    not_used: dict[Backend, str] = {}
    for name, carrier in _CARRIERS.items():
        if backend not in ("auto", name):
            continue
        try:
            return name, carrier(nlist, law), not_used
        except InputError as error:
            not_used[name] = str(error)
    raise InputError(
        f"backend = {backend!r} does not work here: {'; '.join(not_used.values())}. Expected one that does, or auto."
    )
