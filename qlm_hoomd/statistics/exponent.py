"""An exponent with its interval and what speaks against it, as every estimator returns it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from qlm_hoomd.base.display import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, repr=False)
class Exponent(Result):
    """An exponent with its confidence interval.

    Args:
        name: ``theta`` or ``alpha``.
        value: the estimate.
        low, high: ends of the confidence interval; infinite where the data do not bound it.
        confidence: probability content of the interval.
        estimator: how it was obtained, in words.
        n_realisations: realisations behind it, in all or by system size.
        window: range of the fit: (N_low, N_high) or (omega_low, omega_high); None where there is none.
        warnings: what the reader should know before using the number.
    """

    _also: ClassVar[tuple[str, ...]] = ("outside_theory",)

    name: str
    value: float
    low: float
    high: float
    confidence: float
    estimator: str
    n_realisations: int | dict[int, int]
    window: tuple[float, float] | None = None
    warnings: tuple[str, ...] = ()

    def _headline(self) -> str:
        outside = "" if self.outside_theory is None else f", {self.outside_theory}"
        return f"{self.name} = {self.value:.3g} [{self.low:.3g}, {self.high:.3g}] ({self.confidence:.0%}){outside}"

    @property
    def outside_theory(self) -> str | None:
        """That the theory has no such value (theta < 0, alpha < 3), to stand in one line with it; None where it has."""
        return outside_theory(self.name, self.value)

    @property
    def half_width(self) -> float:
        """Half the length of the confidence interval."""
        return (self.high - self.low) / 2


def outside_theory(name: str, value: float) -> str | None:
    """As :attr:`Exponent.outside_theory`."""
    smallest = {"theta": 0.0, "alpha": 3.0}.get(name)
    return f"outside the theory ({name} >= {smallest:g})" if smallest is not None and value < smallest else None


def new_axes() -> Axes:
    """Axes of a new pyplot figure; matplotlib is imported here and not with the package, for it is slow to import."""
    import matplotlib.pyplot as plt

    return plt.subplots()[1]
