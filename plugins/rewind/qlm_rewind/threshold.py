"""The paper's detector of instabilities, Appendix F: a jump of the non-affine displacement, refined by rewinding."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field
from qlm_quasistatic.detector import Detector, Instability

from qlm_hoomd.model import PARAMETERS

if TYPE_CHECKING:
    from qlm_quasistatic.stepper import ShearState, ShearStep, Stepper
    from qlm_quasistatic.strains import StrainGrid

_log = logging.getLogger(__name__)
Rule = Literal["text", "figure"]
"""The paper states two: in the text of its appendix F, and in the caption of its figure 4."""


@dataclass(frozen=True)
class ThresholdMemory:
    """What the detector knows between two coarse steps.

    Args:
        state: the last state.
        q_last: Q of the last step that stands.
        waiting: the steps after it, at most two, that may still be rewound.
    """

    state: ShearState
    q_last: float = 0.0
    waiting: tuple[ShearStep, ...] = ()


class ThresholdDetector(Detector):
    """Three successive steps with Q_2 > Q_c and Q_1, Q_3 < Q_c mark an instability in the second (the paper, App. F).

    The run then goes back to the state before the second step, which was kept, and on with a tenth of the increment, until
    the increment is ``min_increment``. There the instability counts if Q is discontinuous, ``discontinuity`` Q_3 < Q_2.

    The paper's figure 4 states a different rule, Q_2 > max(Q_1, Q_3, Q_c); ``rule: figure`` takes it. Close to an instability
    the elastic Q grows as 1 / sqrt(gamma_c - gamma), and at the finest increment of a small system Q_1 itself can pass Q_c, so
    that the text's rule loses what it had bracketed. The figure's rule then decides inside that bracket; the log and the column
    ``rule`` of ``events.parquet`` say so.

    Instabilities whose largest jump is below Q_c L dgamma are not seen: the detector's blind spot, which grows with L.
    """

    kind: Literal["threshold"] = "threshold"
    q_c: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=PARAMETERS["q_c"].value, description="threshold Q_c; the paper: 100"
    )
    refine: Annotated[int, Field(ge=2, le=100)] = Field(
        default=10, description="factor between successive increments; the paper: 10"
    )
    min_increment: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=1e-6, description="increment at which refinement ends; the paper: 1e-6"
    )
    discontinuity: Annotated[float, Field(gt=1, allow_inf_nan=False)] = Field(
        default=100.0, description="factor by which Q_2 must exceed Q_3 at the finest increment; the paper: 100"
    )
    rule: Rule = Field(default="text", description="which of the paper's two rules marks a jump")

    def blind_below(self, increment: float, length: float) -> float:
        """Q_c L dgamma; see :meth:`qlm_quasistatic.detector.Detector.blind_below`."""
        return self.q_c * length * increment

    def follow(self, stepper: Stepper, start: ShearState, grid: StrainGrid) -> Iterator[ShearStep | Instability]:
        """See :meth:`qlm_quasistatic.detector.Detector.follow`."""
        return self.resume(stepper, ThresholdMemory(start), grid)

    @property
    def memory_classes(self) -> tuple[type, ...]:
        """See :attr:`qlm_quasistatic.detector.Detector.memory_classes`."""
        return (ThresholdMemory,)

    def resume(self, stepper: Stepper, memory: ThresholdMemory, grid: StrainGrid) -> Iterator[ShearStep | Instability]:
        """See :meth:`qlm_quasistatic.detector.Detector.resume`; there is no waypoint within the refinement of a jump."""
        state, q_last, waiting = memory.state, memory.q_last, list(memory.waiting)
        while not grid.done(state.strain):
            stepper.waypoint(partial(ThresholdMemory, state, q_last, tuple(waiting)))
            waiting.append(stepper.step(state, grid.next_strain(state.strain)))
            state = waiting[-1].after
            settled = waiting[-1]
            if grid.done(state.strain) and settled.q > self.q_c:
                # A jump in the very last step: one trial step beyond the end gives its Q_3.
                settled = stepper.step(state, state.strain + grid.increment)
                waiting.append(settled)
            if len(waiting) >= 2 and self._marks(waiting[-3].q if len(waiting) > 2 else q_last, waiting[-2].q, settled.q):
                *before, jump, settled = waiting
                q_last = before[-1].q if before else q_last
                waiting = []
                yield from before
                for item in self._refine(stepper, grid, q_last, jump, settled, self._finer(grid.increment), self.rule):
                    step = item.step if isinstance(item, Instability) else item
                    if grid.beyond(step.after.strain):
                        return
                    yield item
                    state, q_last = step.after, step.q
            elif len(waiting) == 3:
                q_last = waiting[0].q
                yield waiting.pop(0)
        yield from (step for step in waiting if not grid.beyond(step.after.strain))

    def _marks(self, q1: float, q2: float, q3: float) -> bool:
        if self.rule == "text":
            return q2 > self.q_c and q1 < self.q_c and q3 < self.q_c
        return q2 > max(q1, q3, self.q_c)

    def _finer(self, increment: float) -> float:
        return max(increment / self.refine, min(increment, self.min_increment))

    def _refine(
        self,
        stepper: Stepper,
        grid: StrainGrid,
        q_before: float,
        jump: ShearStep,
        settled: ShearStep,
        increment: float,
        rule: Rule,
    ) -> list[ShearStep | Instability]:
        """What stands between the state before ``jump`` and the end of ``settled``, found with a finer increment.

        ``rule`` is the one that decided so far.
        """
        finest = increment <= self.min_increment * (1.0 + 1e-9)
        steps: list[ShearStep] = []
        state, end, found = jump.before, settled.after.strain, -1
        while state.strain < end:
            target = grid.next_strain(state.strain, increment)
            # Strains add up to the end but for rounding, and a step of the size of a rounding error has no Q.
            steps.append(stepper.step(state, end if target > end - 1e-3 * increment else target))
            state = steps[-1].after
            if len(steps) >= 2 and self._marks(steps[-3].q if len(steps) > 2 else q_before, steps[-2].q, steps[-1].q):
                found = len(steps) - 2
                break
        if found < 0:
            found = self._largest_jump(q_before, steps)
            _log.warning(
                "increment %.0e: no jump by the %s's rule in (%.8f, %.8f]; %s.",
                increment, self.rule, jump.before.strain, end,
                "none by figure 4's rule either, the bracketed instability is dropped" if found < 0
                else "figure 4's rule takes the largest",
            )  # fmt: skip
            if found < 0:
                return list(steps)
            rule = "figure"
        marked = steps[found]
        if not finest:
            before = steps[:found]
            q_before = before[-1].q if before else q_before
            return [*before, *self._refine(stepper, grid, q_before, marked, steps[found + 1], self._finer(increment), rule)]
        if not self.discontinuity * steps[found + 1].q < marked.q:
            _log.warning(
                "strain %.8f: Q = %.3g is followed by Q = %.3g, no discontinuity; not counted as an instability.",
                marked.after.strain, marked.q, steps[found + 1].q,
            )  # fmt: skip
            return list(steps)
        strain_c = 0.5 * (marked.before.strain + marked.after.strain)
        return [*steps[: found + 1], Instability(marked, strain_c, rule=rule), *steps[found + 1 :]]

    def _largest_jump(self, q_before: float, steps: list[ShearStep]) -> int:
        """Index of the step of largest Q that figure 4's rule marks; -1 if there is none."""
        q = [q_before, *(step.q for step in steps)]
        marked = [index for index in range(1, len(q) - 1) if q[index] > max(q[index - 1], q[index + 1], self.q_c)]
        return max(marked, key=q.__getitem__) - 1 if marked else -1
