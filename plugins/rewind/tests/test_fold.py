"""The fold detector on a real glass: against the definition of a saddle-node, the threshold detector, and plain descent."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scipy.linalg
from pydantic import ValidationError
from qlm_quasistatic import Instability, ShearState, ShearStep, Stepper
from qlm_quasistatic.detector import EVENT_COLUMNS, event_row
from qlm_quasistatic.stage import ShearStage
from qlm_quasistatic.strains import StrainGrid
from qlm_rewind import FoldDetector, ThresholdDetector
from qlm_rewind.saddle_node import SoftMode, locate

from qlm_hoomd import gsdio
from qlm_hoomd.anharmonic import AnharmonicModes
from qlm_hoomd.engines.cpu import CPUEngine, CPUEngineSettings
from qlm_hoomd.errors import BasinLost, ConvergenceError
from qlm_hoomd.hessian import Hessian
from qlm_hoomd.mechanics import Mechanics, bonds_of
from qlm_hoomd.minimize.surface import max_norm, without_drift
from qlm_hoomd.model import GlassModel
from qlm_hoomd.modes import LowestModes
from qlm_hoomd.potentials import Harmonic, Hertzian, InversePowerLaw, KobAndersen
from qlm_hoomd.relaxed_path import relaxed_path
from qlm_hoomd.testing import DetectorConformance

if TYPE_CHECKING:
    from qlm_quasistatic import Fold

    from qlm_hoomd.glass import Glass
    from qlm_hoomd.potentials import PairPotential

STOPS = (0.0123, 0.03)
GRID = StrainGrid(1e-4, 0.09, STOPS)


class TestFoldDetector(DetectorConformance):
    detector = FoldDetector()


@dataclass
class Run:
    """What a detector made of a glass."""

    steps: list[ShearStep] = field(default_factory=list)
    events: list[Instability] = field(default_factory=list)


def run_of(detector: FoldDetector | ThresholdDetector, stepper: Stepper, start: ShearState, grid: StrainGrid) -> Run:
    run = Run()
    for item in detector.follow(stepper, start, grid):
        if isinstance(item, Instability):
            assert item.step is run.steps[-1]
            run.events.append(item)
        else:
            run.steps.append(item)
    return run


@pytest.fixture(scope="module")
def stepper(model: GlassModel) -> Stepper:
    return Stepper(CPUEngineSettings().build(model))


@pytest.fixture(scope="module")
def run(stepper: Stepper, quenched: Glass) -> Run:
    run = run_of(FoldDetector(), stepper, stepper.start(quenched), GRID)
    assert len(run.events) >= 3
    return run


@pytest.fixture(scope="module", params=[0, 1, 2])
def event(run: Run, request: pytest.FixtureRequest) -> Instability:
    return run.events[request.param]


def fold_of(event: Instability) -> Fold:
    assert event.fold is not None
    return event.fold


def softest(glass: Glass, model: GlassModel) -> tuple[float, Any]:
    modes = LowestModes(1).compute(Hessian(model.potential).compute(glass))
    return float(modes.eigenvalues[0]), modes.vectors[0]


def near_fold(fold: Fold, distance: float, stepper: Stepper) -> Glass:
    """The stable state a strain ``distance`` before the fold, found from its normal form alone."""
    along = np.sqrt(2.0 * fold.coupling * distance / fold.kappa)
    affine = fold.glass.at_strain(fold.strain_c - distance)
    guess = affine.moved(affine.positions + along * fold.mode + 0.5 * along**2 * fold.bend)
    return stepper.engine.relax(guess, after_event=None)[0]


def test_it_is_a_saddle_node(event: Instability, model: GlassModel) -> None:
    """By all of LAPACK: forces vanish, one eigenvalue vanishes, with psi as its vector, and no other one is negative."""
    fold = fold_of(event)
    bonds = bonds_of(fold.glass, model.potential, 3)
    assert max_norm(bonds.forces) < 1e-10
    eigenvalues, vectors = scipy.linalg.eigh(bonds.hessian().toarray(), subset_by_index=[0, 4])
    # Three translations and the critical mode; the next one is positive.
    assert (np.abs(eigenvalues[:4]) < 1e-4).all()
    assert eigenvalues[4] > 0.05
    within = vectors[:, :4].T @ fold.mode.ravel()
    assert within @ within == pytest.approx(1.0, abs=1e-8)
    assert np.linalg.norm(bonds.product(fold.mode)) < 1e-4
    assert abs(fold.eigenvalue) < 1e-4
    np.testing.assert_allclose(fold.mode.mean(axis=0), 0.0, atol=1e-12)
    assert fold.kappa == pytest.approx(bonds.kappa(fold.mode), rel=1e-9)
    assert fold.coupling == pytest.approx(np.vdot(fold.mode, bonds.mixed_derivative()), rel=1e-9)
    assert min(fold.kappa, fold.coupling) > 0.0
    assert fold.error < 1e-10


def test_lambda_squared_is_two_kappa_c_times_the_distance(event: Instability, stepper: Stepper, model: GlassModel) -> None:
    """Also a test of kappa, which enters through third derivatives of the potential only."""
    fold = fold_of(event)

    def ratio(distance: float) -> float:
        eigenvalue, mode_nc = softest(near_fold(fold, distance, stepper), model)
        assert abs(np.vdot(mode_nc, fold.mode)) > 0.99
        return eigenvalue**2 / (2.0 * fold.kappa * fold.coupling * distance)

    assert ratio(1e-7) == pytest.approx(1.0, abs=0.02)
    # The next order of the normal form is the square root of the distance; half the root takes half of it away.
    assert 2.0 * ratio(2.5e-6) - ratio(1e-5) == pytest.approx(1.0, abs=0.01)


def test_a_state_alone_predicts_its_distance_to_the_fold(event: Instability, stepper: Stepper, model: GlassModel) -> None:
    """From lambda, kappa, relaxed chi and d lambda / d gamma of the softest mode: what is left errs by the next order only."""
    fold = fold_of(event)
    for distance in (1e-6, 1e-5):
        hessian = Hessian(model.potential, order=4).compute(near_fold(fold, distance, stepper))
        (mode,) = AnharmonicModes().compute(hessian, LowestModes(1).compute(hessian).vectors)
        predicted, leading = mode.relaxed_strain_forward, mode.cubic_strain
        assert predicted is not None
        assert leading is not None
        # The leading order errs by the square root of the distance, 3 to 27 % at 1e-5 on these events; the next one by its
        # square.
        correction = abs(leading / distance - 1.0)
        assert abs(predicted / distance - 1.0) < correction**2
        assert predicted == pytest.approx(distance, rel=0.005 if distance < 1e-5 else 0.05)


@pytest.mark.parametrize(("increment", "longest"), [(3e-5, 2e-4), (5e-4, 2e-3), (1e-4, 1e-4)])
def test_it_does_not_depend_on_the_increments(
    run: Run, quenched: Glass, model: GlassModel, increment: float, longest: float
) -> None:
    stepper = Stepper(CPUEngineSettings().build(model))
    _, fold = FoldDetector(max_increment=longest).locate_next(stepper, stepper.start(quenched), StrainGrid(increment, 0.3))
    assert fold is not None
    first = fold_of(run.events[0])
    assert fold.strain_c == pytest.approx(first.strain_c, abs=1e-10)
    assert abs(np.vdot(fold.mode, first.mode)) == pytest.approx(1.0, abs=1e-8)
    assert max_norm(without_drift(fold.glass.nonaffine_displacement(first.glass))) < 1e-5


def test_it_lies_in_the_bracket_of_the_threshold_detector(run: Run, model: GlassModel) -> None:
    """From a state well before each event: the paper's procedure brackets the same strain and falls into the same minimum."""
    for event in run.events:
        near = max(
            (step.after for step in run.steps if step.after.strain < event.strain_c - 1e-4), key=lambda state: state.strain
        )
        stepper = Stepper(CPUEngineSettings().build(model))
        grid = StrainGrid(1e-4, event.strain_c + 1e-3)
        found = run_of(ThresholdDetector(), stepper, ShearState(near.glass, near.observables), grid).events[0]
        assert found.step.before.strain - 1e-9 <= event.strain_c <= found.step.after.strain + 1e-9
        assert found.energy_drop == pytest.approx(event.energy_drop, rel=0.01)
        np.testing.assert_allclose(found.displacement, event.displacement, atol=0.02)


def test_stress_and_energy_are_continuous_before_and_drop_after(event: Instability, stepper: Stepper) -> None:
    fold = fold_of(event)
    volume = fold.glass.box.volume
    for distance, tolerance in ((1e-6, 0.3), (1e-8, 0.03)):
        measured = stepper.engine.measure(near_fold(fold, distance, stepper))
        # To leading order V sigma rises above its value at the fold by C s, s = sqrt(2 C distance / kappa).
        rise = fold.coupling * np.sqrt(2.0 * fold.coupling * distance / fold.kappa) / volume
        assert measured.stress_xy - fold.observables.stress_xy == pytest.approx(rise, rel=tolerance)
        assert measured.energy == pytest.approx(fold.observables.energy, abs=2.0 * distance)
    assert event.fallen is not None
    assert event.fallen.strain == fold.strain_c
    assert event.fallen.observables.max_force < 1e-10
    assert event.energy_drop > 1e-7


def test_it_falls_where_plain_descent_falls(event: Instability, stepper: Stepper) -> None:
    """The same minimum as overdamped dynamics of the last stable state, sheared 1e-7 past the fold."""
    fold = fold_of(event)
    assert event.fallen is not None
    past = fold.strain_c + 1e-7
    plain, _ = stepper.engine.descend(near_fold(fold, 1e-8, stepper).at_strain(past))
    ours, _ = stepper.engine.relax(event.fallen.glass.at_strain(past), after_event=None)
    assert max_norm(without_drift(plain.nonaffine_displacement(ours))) < 1e-8


def test_the_fall_does_not_depend_on_the_push(event: Instability, stepper: Stepper, monkeypatch: pytest.MonkeyPatch) -> None:
    assert event.fallen is not None
    for push in (2e-3, 2e-2):
        monkeypatch.setattr("qlm_rewind.fold._PUSH", push)
        from qlm_rewind.fold import _fall

        glass, _ = _fall(stepper, fold_of(event))
        assert max_norm(without_drift(glass.nonaffine_displacement(event.fallen.glass))) < 1e-8


def test_steps_are_contiguous_and_hit_the_stops(run: Run, quenched: Glass) -> None:
    assert run.steps[0].before.glass is quenched
    for one, other in itertools.pairwise(run.steps):
        assert one.after is other.before
        assert other.increment > 0.0
    strains = [step.after.strain for step in run.steps]
    assert set(STOPS) <= set(strains)
    assert strains[-1] == GRID.largest
    events = [event.step for event in run.events]
    for step in run.steps:
        assert step.after.observables.max_force < 1e-10
        assert step.left_basin == (step in events)
        assert step.increment <= 1e-3 * (1.0 + 1e-9)
        if step in events:
            assert step.increment <= 1.001e-6


def test_ten_times_smaller_increments_find_nothing_more(run: Run, quenched: Glass, model: GlassModel) -> None:
    stepper = Stepper(CPUEngineSettings().build(model))
    finer = run_of(FoldDetector(max_increment=1e-4, overlaps=()), stepper, stepper.start(quenched), StrainGrid(1e-5, 0.03))
    coarse = [event.strain_c for event in run.events if event.strain_c < 0.03]
    assert [event.strain_c for event in finer.events] == pytest.approx(coarse, abs=1e-9)


def test_the_critical_mode_becomes_the_softest_one(run: Run) -> None:
    for event in run.events:
        fractions, overlaps = zip(*event.overlaps, strict=True)
        assert fractions == (0.1, 0.01, 0.001)
        assert all(0.0 <= overlap <= 1.0 + 1e-12 for overlap in overlaps)
        assert overlaps[2] > 0.99
        assert overlaps[2] >= overlaps[0]


def test_the_row_of_an_event(event: Instability) -> None:
    row = event_row(event, 0.0, FoldDetector())
    fold = fold_of(event)
    assert set(row) == set(EVENT_COLUMNS)
    assert {name for name, value in row.items() if value is None} == {"rule"}  # it has one
    assert row["detector"] == "fold"
    assert row["avalanche_size"] == pytest.approx(row["stress_drop"] * fold.glass.box.volume)
    assert row["max_jump"] == pytest.approx(max_norm(event.displacement))
    # A core of few particles, and a displacement that the critical mode begins.
    assert row["mode_participation_ratio"] < 0.5
    assert row["participation_ratio"] < 0.6
    assert -np.vdot(event.displacement, fold.mode) > 0.0
    assert row["strain_before"] < row["strain_c"] < row["strain_after"]
    plain = event_row(Instability(event.step, event.strain_c, rule="text"), 0.0, ThresholdDetector())
    assert {name for name, value in plain.items() if value is None} == {
        "kappa", "coupling", "mode_participation_ratio", "overlap_fractions", "overlaps",
    }  # fmt: skip
    assert plain["energy_drop"] == pytest.approx(row["energy_drop"], rel=0.01)


class Obstinate(CPUEngine):
    """An engine that refuses elastic states beyond a strain at which nothing happens."""

    limit = 0.001

    def relax(self, glass: Glass, **options: Any) -> Any:
        if options.get("after_event", "descent") is None and glass.strain > self.limit:
            raise BasinLost("refused", None)
        return super().relax(glass, **options)


def test_a_branch_that_ends_without_a_fold_is_an_error(quenched: Glass, model: GlassModel) -> None:
    """The true fold is far ahead; it is not taken for the reason why steps fail here."""
    stepper = Stepper(Obstinate(model.potential))
    items = FoldDetector(min_increment=1e-6).follow(stepper, stepper.start(quenched), GRID)
    steps: list[ShearStep | Instability] = []
    with pytest.raises(
        ConvergenceError, match=r"elastic branch ends between strain 0\.0009.* and 0\.00100.*no fold is found there"
    ):
        steps.extend(items)
    assert all(isinstance(step, ShearStep) for step in steps)
    assert isinstance(steps[-1], ShearStep)
    assert 0.00099 < steps[-1].after.strain <= 0.001


def test_a_step_over_an_event_is_refused(run: Run, model: GlassModel) -> None:
    """An engine that silently falls past the event gives the first law away, and the fold is found all the same."""

    class Careless(CPUEngine):
        def relax(self, glass: Glass, **options: Any) -> Any:
            return super().relax(glass, **(options | {"after_event": "descent"}))

    event = run.events[0]
    near = max((step.after for step in run.steps if step.after.strain < event.strain_c - 1e-4), key=lambda state: state.strain)
    stepper = Stepper(Careless(model.potential))
    start = ShearState(near.glass, near.observables)
    steps, fold = FoldDetector().locate_next(stepper, start, StrainGrid(1e-3, 0.3))
    assert fold is not None
    assert fold.strain_c == pytest.approx(event.strain_c, abs=1e-10)
    assert all(step.after.strain < event.strain_c for step in steps)


def test_a_grid_that_ends_before_the_fold_has_none(quenched: Glass, stepper: Stepper, run: Run) -> None:
    end = run.events[0].strain_c - 1e-5
    steps, fold = FoldDetector().locate_next(stepper, stepper.start(quenched), StrainGrid(1e-4, end))
    short = run_of(FoldDetector(), stepper, stepper.start(quenched), StrainGrid(1e-4, end))
    assert fold is None or fold.strain_c > end
    assert not short.events
    assert short.steps[-1].after.strain == end
    assert steps[-1].after.strain <= end


def test_a_stop_inside_the_event_is_the_state_after_it(run: Run, model: GlassModel) -> None:
    """States at the stops are asked for exactly, also within ``offset`` of an event."""
    event = run.events[0]
    for shift, side in ((3e-7, "after"), (-3e-7, "before")):
        stop = event.strain_c + shift
        near = max((s.after for s in run.steps if s.after.strain < event.strain_c - 1e-4), key=lambda state: state.strain)
        stepper = Stepper(CPUEngineSettings().build(model))
        grid = StrainGrid(1e-4, event.strain_c + 1e-5, (stop,))
        again = run_of(FoldDetector(overlaps=()), stepper, ShearState(near.glass, near.observables), grid)
        assert getattr(again.events[0].step, side).strain == stop
        assert again.events[0].strain_c == pytest.approx(event.strain_c, abs=1e-10)


def test_locate_refuses_a_direction_without_a_fold(quenched: Glass, model: GlassModel) -> None:
    """Far from any fold, along a random direction: an error, never a state."""
    mechanics = Mechanics(model.potential, quenched.typeid)
    direction_nc = np.random.default_rng(3).normal(size=quenched.positions.shape)
    with pytest.raises(ConvergenceError):
        locate(mechanics, quenched, direction_nc)


def test_systems_are_solved_on_the_complement_of_the_mode(event: Instability, model: GlassModel) -> None:
    """P H P x = P b, at the fold itself where H is singular."""
    fold = fold_of(event)
    soft = SoftMode(bonds_of(fold.glass, model.potential, 3), fold.mode)
    right_nc = np.random.default_rng(5).normal(size=fold.mode.shape)
    right_nc -= right_nc.mean(axis=0)
    solution_nc = soft.solve(right_nc, 1e-10)
    missing_nc = right_nc - soft.bonds.product(solution_nc)
    missing_nc -= np.vdot(missing_nc, fold.mode) * fold.mode
    assert np.linalg.norm(missing_nc) < 1e-7 * np.linalg.norm(right_nc)
    assert abs(np.vdot(solution_nc, fold.mode)) < 1e-10


def test_the_path_over_the_critical_mode_turns_at_the_fold(event: Instability, stepper: Stepper, model: GlassModel) -> None:
    """From one state at rest, by a way that shares no equation with the location of folds."""
    fold = fold_of(event)
    for distance in (1e-5, 1e-4):
        glass = near_fold(fold, distance, stepper)
        mechanics = Mechanics(model.potential, glass.typeid)
        path = relaxed_path(mechanics, glass, softest(glass, model)[1])
        # As seen from here it errs by the next order of the distance.
        assert path.strain == pytest.approx(distance, rel=0.01 if distance < 1e-4 else 0.05)
        assert path.fold_strain(mechanics) == pytest.approx(distance, abs=1e-7)


@pytest.mark.parametrize("settings", [{"max_increment": 0.0}, {"overlaps": [1.0]}, {"balance": -1.0}, {"offset": 1.0}])
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FoldDetector.model_validate(settings)


def test_fold_beside_a_cusp_is_located(model: GlassModel) -> None:
    # kappa nearly vanishes here (0.01, where 1 is usual), and the quartic term decides with it: loose linear solves miss that.
    glass = gsdio.read_glass(Path(__file__).parent / "data" / "near_a_cusp.gsd").glass
    stepper = Stepper(CPUEngine(model.potential))
    hessian = Hessian(model.potential, order=4).compute(glass)
    softest_nc = LowestModes(1).compute(hessian).vectors[0]
    (expansion,) = AnharmonicModes().compute(hessian, softest_nc[None])
    fold = locate(Mechanics(model.potential, glass.typeid, 0.3), glass, softest_nc)
    distance = fold.strain_c - glass.strain
    assert abs(fold.kappa) < 0.05
    assert max_norm(bonds_of(fold.glass, model.potential).forces) < 1e-10
    # lambda + kappa s + chi s^2 / 2 = 0 with the relaxed chi, from the one state.
    assert distance == pytest.approx(expansion.row()["relaxed_strain_forward"], rel=0.05)
    run = run_of(FoldDetector(overlaps=()), stepper, stepper.start(glass), StrainGrid(1e-4, glass.strain + 1e-4))
    assert run.events[0].strain_c == pytest.approx(fold.strain_c, abs=1e-11)
    assert run.steps[-1].after.strain == pytest.approx(glass.strain + 1e-4)


@pytest.mark.parametrize(
    ("potential", "jumps"),
    [
        (
            InversePowerLaw(n=10, q=0, x_c=1.48, lengths=((1.0, 1.2), (1.2, 1.4))),
            "force and the Hessian of InversePowerLaw jump at",
        ),
        (InversePowerLaw(n=10, q=1, x_c=1.48, lengths=((1.0, 1.2), (1.2, 1.4))), "Hessian of InversePowerLaw jumps at"),
        (InversePowerLaw(n=10, q=2, x_c=1.48, lengths=((1.0, 1.2), (1.2, 1.4))), ""),
        (KobAndersen(q=0), "force and the Hessian of KobAndersen jump at"),
        (KobAndersen(q=1), "Hessian of KobAndersen jumps at"),
        (KobAndersen(q=2), ""),
        (Harmonic(sigma=((1.0, 1.2), (1.2, 1.4))), "Hessian of Harmonic jumps at"),
        (Hertzian(sigma=((1.0, 1.2), (1.2, 1.4))), ""),
    ],
)
def test_laws_whose_force_or_hessian_jumps_are_refused(potential: PairPotential, jumps: str) -> None:
    """An elastic branch can end there without a fold; a protocol says so when it is read."""
    model = GlassModel(potential=potential)
    stage = ShearStage.model_validate({"strain_max": 0.1, "detector": "fold"})
    if not jumps:
        stage.check(model, [500])
        return
    with pytest.raises(ValueError, match=jumps + r".*detector: threshold"):
        stage.check(model, [500])
    ShearStage.model_validate({"strain_max": 0.1, "detector": "threshold"}).check(model, [500])
