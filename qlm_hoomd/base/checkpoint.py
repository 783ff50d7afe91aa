"""Checkpoints inside a stage: plain values in one file, from which a stage that was interrupted goes on.

A stage that may be asked to go further one day keeps such a file beside its products (:meth:`Checkpoint.keep`).

What is saved is a tree of plain values: numbers, texts, lists, dictionaries, arrays, and dataclasses of these. The file is an
``npz`` archive of the arrays and one JSON text, behind a line with its SHA-256 digest. Nothing in it is ever executed: no
pickle, and of dataclasses only those that the reader names. What is damaged or of another run is reported and not used.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from qlm_hoomd.base.errors import InputError
from qlm_hoomd.base.files import replacing
from qlm_hoomd.base.interrupt import Interrupted, stop_requested

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_log = logging.getLogger(__name__)

Waypoint: TypeAlias = Callable[[Callable[[], Any]], None]
"""Is told of a place from which work can go on, by a function that gives the state there as plain values."""

INTERVAL_VARIABLE = "QLM_CHECKPOINT_INTERVAL"
"""Environment variable: seconds between two checkpoints."""
_DEFAULT_INTERVAL = 600.0
_MAGIC = b"qlm checkpoint 1"
_TREE = "tree"


def interval_from_environment() -> float:
    """Seconds between two checkpoints: that of :data:`INTERVAL_VARIABLE`, else ten minutes. No part of any protocol.

    Raises:
        InputError: if the variable holds no such number.
    """
    text = os.environ.get(INTERVAL_VARIABLE, str(_DEFAULT_INTERVAL))
    try:
        interval = float(text)
    except ValueError:
        interval = math.nan
    if not interval >= 0.0:
        raise InputError(f"{INTERVAL_VARIABLE} = {text!r}; expected a number of seconds, 0 or more, e.g. 600.")
    return interval


class Checkpoint:
    """The state of one stage of one realisation, saved at an interval and when the process is asked to stop.

    Args:
        path: the file; None for no file at all, where stages are run by hand.
        key: JSON values that tell whose state it is; a file with another key is not used.
        interval: seconds between two saves, at least; 0 saves at every waypoint.
    """

    def __init__(
        self, path: Path | None = None, key: Mapping[str, Any] | None = None, interval: float = _DEFAULT_INTERVAL
    ) -> None:
        self._path = path
        self._key = json.loads(json.dumps(dict(key or {}), sort_keys=True))
        self._interval = interval
        self._next = time.monotonic() + interval
        self._start = time.process_time(), time.perf_counter()
        self._spent = 0.0, 0.0

    @property
    def cost(self) -> tuple[float, float]:
        """Processor and wall time [s] since this object was made, and before the checkpoint from which the stage went on."""
        return (
            self._spent[0] + time.process_time() - self._start[0],
            self._spent[1] + time.perf_counter() - self._start[1],
        )

    def load(self, *classes: type) -> Any | None:
        """The state that was saved, or None if there is none, or none that can be trusted.

        Args:
            classes: the dataclasses that may occur in it.
        """
        if self._path is None:
            return None
        try:
            content = unpacked(self._path.read_bytes(), classes)
            foreign = [name for name in {*content["key"], *self._key} if content["key"].get(name) != self._key.get(name)]
            if foreign:
                _log.warning(
                    "%s is the checkpoint of another run (%s differ); the stage begins anew.",
                    self._path.name,
                    ", ".join(sorted(foreign)),
                )
                return None
            self._spent = float(content["cpu_s"]), float(content["wall_s"])
            return content["state"]
        except FileNotFoundError:
            return None
        except Exception as error:  # noqa: BLE001  (whatever the bytes of a damaged file lead to)
            _log.warning("%s cannot be read (%s: %s); the stage begins anew.", self._path.name, type(error).__name__, error)
            return None

    def waypoint(self, state: Callable[[], Any]) -> None:
        """A place from which the stage can go on: save the state if it is time to, or if the process was asked to stop.

        Cheap to call as long as nothing is due.

        Args:
            state: gives the state as plain values; called only if it is saved.

        Raises:
            Interrupted: if the process was asked to stop.
        """
        signum = stop_requested()
        if signum is None and time.monotonic() < self._next:
            return
        self._save(state)
        if signum is not None:
            raise Interrupted(signum)

    def discard(self) -> None:
        """Remove the file, and forget what it took to get to its state."""
        self._spent = 0.0, 0.0
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def keep(self, state: Any, cost: tuple[float, float]) -> None:
        """Keep a state beside the products, as ``<stage>.checkpoint``: where a run of this stage that is to go further can go on.

        Args:
            state: the state as plain values.
            cost: what it took to get there, as :attr:`cost` gave it then.

        Raises:
            OSError: if it cannot be written.
        """
        if self._path is not None:
            with replacing(kept_path(self._path)) as temporary:
                temporary.write_bytes(packed(self._content(state, cost), compressed=True))

    def _content(self, state: Any, cost: tuple[float, float]) -> dict[str, Any]:
        return {"key": self._key, "cpu_s": cost[0], "wall_s": cost[1], "state": state}

    def _save(self, state: Callable[[], Any]) -> None:
        if self._path is None:
            return
        try:
            with replacing(self._path) as temporary:
                temporary.write_bytes(packed(self._content(state(), self.cost)))
        except OSError as error:
            # On a full disk the stage goes on without; it may be done before there is room again.
            _log.warning("%s cannot be written (%s); the last checkpoint stands.", self._path.name, error.strerror or error)
        self._next = time.monotonic() + self._interval


def kept_path(path: Path) -> Path:
    """The file that :meth:`Checkpoint.keep` writes, of the hidden one of a stage at work."""
    return path.with_name(path.name.removeprefix("."))


def packed(value: Any, *, compressed: bool = False) -> bytes:
    """A tree of plain values as bytes. An array that occurs several times is stored once.

    Args:
        value: the tree.
        compressed: whether to make it small rather than quickly.

    Raises:
        TypeError: if there is anything else in it.
    """
    arrays: dict[int, tuple[str, NDArray[Any]]] = {}
    tree = json.dumps(_encoded(value, arrays)).encode()
    buffer = io.BytesIO()
    members: dict[str, Any] = {_TREE: np.frombuffer(tree, dtype=np.uint8), **dict(arrays.values())}
    (np.savez_compressed if compressed else np.savez)(buffer, **members)
    payload = buffer.getvalue()
    return b"%s\n%s\n%s" % (_MAGIC, hashlib.sha256(payload).hexdigest().encode(), payload)


def unpacked(data: bytes, classes: tuple[type, ...] = ()) -> Any:
    """The values in the bytes that :func:`packed` made.

    Args:
        data: the bytes.
        classes: the dataclasses that may occur.

    Raises:
        ValueError: if the bytes are not those that were written.
        Exception: of any other kind, for bytes that somebody else wrote.
    """
    magic, _, rest = data.partition(b"\n")
    digest, _, payload = rest.partition(b"\n")
    if magic != _MAGIC or digest != hashlib.sha256(payload).hexdigest().encode():
        raise ValueError("its checksum is wrong")
    with np.load(io.BytesIO(payload), allow_pickle=False) as archive:
        tree = json.loads(archive[_TREE].tobytes())
        arrays = {name: archive[name] for name in archive.files if name != _TREE}
    return _decoded(tree, arrays, {kind.__name__: kind for kind in classes})


def _encoded(value: Any, arrays: dict[int, tuple[str, NDArray[Any]]]) -> Any:
    """The value as JSON: what JSON does not know is a list of its name and what is in it.

    ``arrays`` holds arrays by their id.
    """
    if isinstance(value, np.float64):  # a float too, but one whose powers may be rounded in another way
        return ["float64", float(value)]
    if isinstance(value, (np.bool_, np.integer)):
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return ["array", arrays.setdefault(id(value), (f"a{len(arrays)}", value))[0]]
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, *(_encoded(item, arrays) for item in value)]
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {name: _encoded(item, arrays) for name, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return [f"={type(value).__name__}", {each.name: _encoded(getattr(value, each.name), arrays) for each in fields(value)}]
    raise TypeError(f"{type(value).__name__} in a checkpoint; expected plain values and dataclasses of them.")


def _decoded(value: Any, arrays: Mapping[str, NDArray[Any]], classes: Mapping[str, type]) -> Any:
    if isinstance(value, dict):
        return {name: _decoded(item, arrays, classes) for name, item in value.items()}
    if not isinstance(value, list):
        return value
    name, *items = value
    if name == "array":
        return arrays[items[0]]
    if name == "float64":
        return np.float64(items[0])
    if name in ("list", "tuple"):
        decoded = [_decoded(item, arrays, classes) for item in items]
        return decoded if name == "list" else tuple(decoded)
    return classes[name.removeprefix("=")](**_decoded(items[0], arrays, classes))
