"""From a YAML file to plain values, with the line of each."""

from __future__ import annotations

import errno
import os
import re
import select
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from qlm_hoomd.base.errors import ProtocolError
from qlm_hoomd.protocol.facts import Location, short
from qlm_hoomd.protocol.models import Protocol

_PIPE_S = 5.0
_MAX_BYTES = 200_000
_MAX_DEPTH = 40
_MAX_VALUES = 100_000


def read_settings(path: Path) -> dict[str, Any]:
    """The plain values in a YAML file that holds one mapping.

    Raises:
        ProtocolError: if it holds anything else.
    """
    return read_yaml(path)[0]


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[Location, int]]:
    """The file as plain dictionaries, lists and scalars, and the line of every place in it."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        with _opened(path) as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ProtocolError(path, [(None, f"cannot be read ({error.strerror}); expected a YAML protocol file.")]) from None
    if len(content) > _MAX_BYTES:
        raise ProtocolError(path, [(None, f"larger than {_MAX_BYTES // 1000} kB; expected a YAML protocol file.")])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ProtocolError(path, [(line, f"byte {error.start} is not UTF-8; expected a YAML text file.")]) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            document = YAML(typ="rt", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        fact = " ".join((error.problem or error.context or "not YAML").split())
        twice = re.match(r'found duplicate key "(.*?)" with', fact)
        text = (
            f"key '{short(twice[1])}' stands twice; expected each key once."
            if twice
            else f"{short(fact)}; expected valid YAML."
        )
        raise ProtocolError(path, [(mark.line + 1 if mark is not None else None, text)]) from None
    except RecursionError:
        raise ProtocolError(path, [(None, f"nested too deeply; expected at most {_MAX_DEPTH} levels.")]) from None
    except YAMLError as error:
        position = getattr(error, "position", 0)
        raise ProtocolError(
            path, [(text.count("\n", 0, position) + 1, "a character that no text file has; expected a YAML text file.")]
        ) from None
    except Exception as error:  # noqa: BLE001  (the parser lets through what building a value raises, e.g. an impossible date)
        raise ProtocolError(path, [(None, f"{short(error)}; expected valid YAML.")]) from None
    if document is None:
        raise ProtocolError(path, [(None, f"empty; expected a mapping with the keys {', '.join(Protocol.model_fields)}.")])
    settings, lines = _Plain(path).convert(document)
    if not isinstance(settings, dict):
        kind = "a list" if isinstance(settings, list) else "a single value"
        keys = ", ".join(Protocol.model_fields)
        raise ProtocolError(path, [(1, f"the top level is {kind}; expected a mapping with the keys {keys}.")])
    return settings, lines


def _opened(path: Path) -> BinaryIO:
    """The file, open for reading; a pipe is one only if somebody writes to it, else opening it would wait for ever.

    Raises:
        OSError: if it cannot be opened, or is a pipe into which nobody writes.
    """
    if not path.is_fifo():
        return path.open("rb")
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not select.select([descriptor], [], [], _PIPE_S)[0]:
        os.close(descriptor)
        raise TimeoutError(errno.ETIMEDOUT, f"a pipe into which nobody wrote for {_PIPE_S:g} s")
    os.set_blocking(descriptor, True)
    return os.fdopen(descriptor, "rb")


class _Plain:
    """Turns ruamel's round-trip values into plain ones and keeps their lines.

    Aliases are written out, so that the number of values is bounded: a file of a few lines can name 10^9 of them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[Location, int] = {(): 1}
        self.n_values = 0

    def convert(self, document: Any) -> tuple[Any, dict[Location, int]]:
        return self._plain(document, ()), self.lines

    def _plain(self, value: Any, place: Location) -> Any:
        self.n_values += 1
        if len(place) > _MAX_DEPTH:
            self._refuse(place, f"nested too deeply; expected at most {_MAX_DEPTH} levels.")
        if self.n_values > _MAX_VALUES:
            self._refuse(place, f"more than {_MAX_VALUES} values; expected a protocol (do aliases repeat one another?).")
        if (tag := getattr(getattr(value, "tag", None), "value", None)) is not None:
            self._refuse(place, f"the YAML tag {short(tag)}; expected plain YAML without tags.")
        if isinstance(value, Mapping):
            return {key: self._plain(item, (*place, key)) for key, item in self._items(value, place)}
        if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
            for index in range(len(value)):
                self._note((*place, index), value, "item", index)
            return [self._plain(item, (*place, index)) for index, item in enumerate(value)]
        return self._scalar(value, place)

    def _items(self, mapping: Mapping[Any, Any], place: Location) -> Iterator[tuple[str | int, Any]]:
        for key, item in mapping.items():
            name = key if isinstance(key, int) and not isinstance(key, bool) else str(key)
            self._note((*place, name), mapping, "key", key)
            yield name, item

    def _note(self, place: Location, container: Any, accessor: str, key: Any) -> None:
        try:
            self.lines[place] = getattr(container.lc, accessor)(key)[0] + 1
        except (AttributeError, KeyError, TypeError):
            return  # merged keys and tagged values have no line of their own: the line of their parent serves

    def _scalar(self, value: Any, place: Location) -> Any:
        from ruamel.yaml.scalarbool import ScalarBoolean

        if value is None or type(value) in (str, int, float, bool):
            return value
        if isinstance(value, ScalarBoolean):
            return bool(value)
        for plain in (str, int, float):
            if isinstance(value, plain):
                return plain(value)
        return self._refuse(place, f"a value of the YAML type {type(value).__name__}; expected text, a number, true or false.")

    def _refuse(self, place: Location, message: str) -> Any:
        raise ProtocolError(self.path, [(line_of(place, self.lines), message)])


def line_of(place: Location, lines: Mapping[Location, int]) -> int | None:
    """The line of a place, or of what holds it."""
    return next((lines[place[:end]] for end in range(len(place), -1, -1) if place[:end] in lines), None)
