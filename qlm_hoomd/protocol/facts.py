"""Facts about a place in a protocol, as errors that pydantic passes on unchanged, and long values cut short."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

Location = tuple[str | int, ...]


def short(value: object) -> str:
    """The value as text of at most 60 characters."""
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def line_error(location: Location, message: str, value: Any) -> Any:
    """The fact ``message`` about the value at ``location``, as pydantic takes it among the errors of a validation."""
    # The message goes in as context, so that braces in it are left alone.
    return {"type": PydanticCustomError("fact", "{message}", {"message": message}), "loc": location, "input": value}


def located(location: Location, message: str, value: Any) -> ValidationError:
    """An error of validation that says the fact ``message`` about the value at ``location``."""
    return ValidationError.from_exception_data("protocol", [line_error(location, message, value)])
