"""How results show themselves: numbers by name, arrays by their shape; a line in a terminal, a table in a notebook."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from html import escape
from typing import Any

import numpy as np


class Brief:
    """Gives a dataclass with ``repr=False`` a short repr, and a table for notebooks."""

    __slots__ = ()

    def _facts(self) -> dict[str, str]:
        return {field.name: _short(getattr(self, field.name)) for field in fields(self)} if is_dataclass(self) else {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {', '.join(f'{name} = {text}' for name, text in self._facts().items())}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th scope="row">{escape(name)}</th><td>{escape(text)}</td></tr>' for name, text in self._facts().items()
        )
        return f"<table><caption><b>{escape(type(self).__name__)}</b></caption><tbody>{rows}</tbody></table>"


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"array {value.shape}"
    if isinstance(value, (tuple, list)) and value and not isinstance(value[0], (int, float)):
        return f"{len(value)} of {type(value[0]).__name__}"
    if isinstance(value, (float, np.floating)):
        return f"{value:.6g}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_short, value))})"
    return repr(value)
