"""Taylor series to a few orders, so that a law is written once and all its derivatives follow.

Source: the recurrences of automatic differentiation in Taylor mode, e.g. Griewank and Walther, Evaluating Derivatives (SIAM
2008), chapter 13.
"""

# Array names carry their axes: k order, p pairs.

from __future__ import annotations

from math import factorial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Constant: TypeAlias = float | NDArray[np.float64]


class Series:
    """A function of one variable near a point of it, for many points at once: c_0 + c_1 d + c_2 d^2 + ...

    Examples:
        >>> w = Series.variable(np.array([4.0]), 2)
        >>> (w**0.5).derivatives().ravel().tolist()
        [2.0, 0.25, -0.03125]

    Args:
        terms: ((K, P) ndarray) coefficients c_k of each of P points.
    """

    # numpy must leave array + series to the series.
    __array_ufunc__ = None

    def __init__(self, terms: NDArray[np.float64]) -> None:
        self.terms = terms

    @classmethod
    def variable(cls, points_p: NDArray[np.float64], order: int) -> Series:
        """The variable itself at these points ((P,) ndarray), to this order."""
        terms_kp = np.zeros((order + 1, len(points_p)))
        terms_kp[0] = points_p
        terms_kp[1:2] = 1.0
        return cls(terms_kp)

    def derivatives(self) -> NDArray[np.float64]:
        """((K, P) ndarray) the k-th derivative, k = 0 to K - 1."""
        return self.terms * np.array([[factorial(k)] for k in range(len(self.terms))])

    def where(self, condition_p: NDArray[np.bool_], other: Series) -> Series:
        """This series where the condition ((P,) ndarray) holds, the other one elsewhere."""
        return Series(np.where(condition_p, self.terms, other.terms))

    def __add__(self, other: Series | Constant) -> Series:
        if isinstance(other, Series):
            return Series(self.terms + other.terms)
        terms_kp = self.terms.copy()
        terms_kp[0] += other
        return Series(terms_kp)

    def __mul__(self, other: Series | Constant) -> Series:
        if not isinstance(other, Series):
            return Series(self.terms * other)
        a_kp, b_kp = self.terms, other.terms
        return Series(np.array([sum(a_kp[j] * b_kp[k - j] for j in range(k + 1)) for k in range(len(a_kp))]))

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Series:
        return Series(-self.terms)

    def __sub__(self, other: Series | Constant) -> Series:
        return self + -other

    def __rsub__(self, other: Constant) -> Series:
        return -self + other

    def __truediv__(self, other: Series | Constant) -> Series:
        return self * (other**-1.0 if isinstance(other, Series) else 1.0 / other)

    def __rtruediv__(self, other: Constant) -> Series:
        return self**-1.0 * other

    def __pow__(self, power: Constant) -> Series:
        """A real power, which may differ from point to point."""
        x_kp, y_kp = self.terms, np.empty_like(self.terms)
        y_kp[0] = x_kp[0] ** power
        for k in range(1, len(x_kp)):
            # From x y' = power x' y.
            y_kp[k] = sum((power * j - (k - j)) * x_kp[j] * y_kp[k - j] for j in range(1, k + 1)) / (k * x_kp[0])
        return Series(y_kp)

    def exp(self) -> Series:
        """The exponential function of this series."""
        x_kp, y_kp = self.terms, np.empty_like(self.terms)
        y_kp[0] = np.exp(x_kp[0])
        for k in range(1, len(x_kp)):
            y_kp[k] = sum(j * x_kp[j] * y_kp[k - j] for j in range(1, k + 1)) / k
        return Series(y_kp)

    def log(self) -> Series:
        """The natural logarithm of this series."""
        x_kp, y_kp = self.terms, np.empty_like(self.terms)
        y_kp[0] = np.log(x_kp[0])
        for k in range(1, len(x_kp)):
            y_kp[k] = (x_kp[k] - sum(j * y_kp[j] * x_kp[k - j] for j in range(1, k)) / k) / x_kp[0]
        return Series(y_kp)

    def cos(self) -> Series:
        """The cosine of this series."""
        x_kp, sine_kp, cosine_kp = self.terms, np.empty_like(self.terms), np.empty_like(self.terms)
        sine_kp[0], cosine_kp[0] = np.sin(x_kp[0]), np.cos(x_kp[0])
        for k in range(1, len(x_kp)):
            sine_kp[k] = sum(j * x_kp[j] * cosine_kp[k - j] for j in range(1, k + 1)) / k
            cosine_kp[k] = -sum(j * x_kp[j] * sine_kp[k - j] for j in range(1, k + 1)) / k
        return Series(cosine_kp)

    def sin(self) -> Series:
        """The sine of this series."""
        return (self - 0.5 * np.pi).cos()
