"""How an object shows itself: one line in a terminal, a small table in a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from html import escape
from inspect import signature
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from qlm_hoomd.base.errors import NotComputedError


class Displayed:
    """Gives ``repr`` and ``_repr_html_`` to a class that can say in a few words what it is.

    A subclass defines :meth:`_headline`; without one the line has the facts themselves. A dataclass needs ``repr=False``, else
    its own repr, with all digits, stays.
    """

    __slots__ = ()

    def _headline(self) -> str:
        """What it is, in a few words; empty where the name of the class says it all."""
        return ""

    def _facts(self) -> Mapping[str, Any]:
        """The rows of the table; by default the fields of the dataclass."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.repr} if is_dataclass(self) else {}

    def __repr__(self) -> str:
        said = self._headline() or ", ".join(f"{name} = {in_words(value)}" for name, value in self._facts().items())
        return f"<{type(self).__name__}: {said}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th scope="row" style="text-align:left">{escape(name)}</th>'
            f'<td style="text-align:left">{escape(in_words(value))}</td></tr>'
            for name, value in self._facts().items()
        )
        headline = ": ".join(part for part in (f"<b>{escape(type(self).__name__)}</b>", escape(self._headline())) if part)
        return f"<table><caption>{headline}</caption><tbody>{rows}</tbody></table>"


class Result(Displayed):
    """A dataclass of results that can be written as JSON; ``_also`` names properties that go with its fields."""

    __slots__ = ()
    _also: ClassVar[tuple[str, ...]] = ()

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values for JSON; None for what is not finite."""
        return fields_as_plain(self) | {name: plain(getattr(self, name)) for name in self._also}


def fields_as_plain(result: Any) -> dict[str, Any]:
    """The fields of a dataclass as plain values, but for private ones."""
    return {field.name: plain(getattr(result, field.name)) for field in fields(result) if not field.name.startswith("_")}


def plain(value: Any) -> Any:
    """A value as JSON can hold it: sequences as lists, keys as text, None for what is not finite."""
    if isinstance(value, Result):
        return value.to_dict()
    if is_dataclass(value) and not isinstance(value, type):
        return fields_as_plain(value)
    if isinstance(value, Mapping):
        return {str(key): plain(content) for key, content in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(entry) for entry in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


class Computation(Displayed):
    """Settings at construction, results after ``compute``: shows the call that made it, and the headline once there is a result.

    A subclass defines :meth:`_settings`, if it is no dataclass, and :meth:`_headline`, empty before the result. Results are
    attributes that the class annotates and ``compute`` sets; to read one before is a
    :class:`~qlm_hoomd.errors.NotComputedError`.
    """

    __slots__ = ()

    if not TYPE_CHECKING:  # to a type checker, what is not declared does not exist

        def __getattr__(self, name: str) -> Any:
            cls = type(self)
            if isinstance(computed := getattr(cls, name, None), property):
                return computed.fget(self)  # raises again what sent the look-up here
            if any(name in vars(base).get("__annotations__", ()) for base in cls.__mro__):
                needed = [
                    each.name for each in list(signature(cls.compute).parameters.values())[1:] if each.default is each.empty
                ]
                raise NotComputedError(
                    f"{cls.__name__} has no result yet; expected a call of compute({', '.join(needed)}) first."
                )
            raise AttributeError(f"{cls.__name__!r} object has no attribute {name!r}")

    def _settings(self) -> Mapping[str, Any]:
        """The arguments of the constructor by name."""
        return super()._facts()

    def _facts(self) -> Mapping[str, Any]:
        return self._settings()

    def __repr__(self) -> str:
        call = f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._settings().items())})"
        headline = self._headline()
        return f"{call}: {headline}" if headline else call


def in_words(value: Any) -> str:
    """A value in a line: arrays and tables by their shape, numbers to six digits, long sequences shortened."""
    if isinstance(value, Displayed):
        return value._headline() or type(value).__name__  # noqa: SLF001  # one of us
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (float, np.floating)):
        return f"{value:.6g}"
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {in_words(content)}" for key, content in value.items()) or "none"
    if hasattr(value, "shape"):
        noun = "array" if isinstance(value, np.ndarray) else type(value).__name__
        return f"{noun} of shape {tuple(value.shape)}"
    if isinstance(value, (tuple, list)):
        if not value:
            return "none"
        separator = "; " if isinstance(value[0], str) else ", "
        shown = value if len(value) <= _MOST_ENTRIES else value[:_MOST_ENTRIES]
        more = f"{separator}... ({len(value)} in all)" if len(value) > len(shown) else ""
        return separator.join(in_words(entry) for entry in shown) + more
    return str(value)


def span(values: Any) -> str:
    """Smallest and largest of some numbers, as ``0.95 to 2.3``; ``none`` where there are none."""
    values = np.asarray(values)
    if not values.size:
        return "none"
    low, high = f"{values.min():.4g}", f"{values.max():.4g}"
    return low if low == high else f"{low} to {high}"


def counted(number: int, noun: str) -> str:
    """``1 mode``, ``20 modes``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


_MOST_ENTRIES = 8
