"""Checkpoint files: values come back to the bit, and what is damaged, foreign or malicious is never used."""

from __future__ import annotations

import hashlib
import io
import logging
import math
import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qlm_hoomd.base import interrupt
from qlm_hoomd.box import Box
from qlm_hoomd.checkpoint import INTERVAL_VARIABLE, Checkpoint, interval_from_environment, kept_path, packed, unpacked
from qlm_hoomd.errors import InputError
from qlm_hoomd.glass import Glass

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY: dict[str, Any] = {"statepoint": {"protocol_hash": "a" * 16, "n_particles": 100}, "code": "1"}


@dataclass(frozen=True)
class Pair:
    first: Any
    second: Any


@pytest.fixture(autouse=True)
def nobody_asks() -> Iterator[None]:
    yield
    interrupt._requested = None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".stage.checkpoint"


def same(one: Any, other: Any) -> bool:
    """Equal to the bit, and of the same types."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, Pair):
        return same(one.first, other.first) and same(one.second, other.second)
    if isinstance(one, float):
        return one.hex() == other.hex()
    return bool(one == other)


_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(), st.floats(allow_nan=False), st.floats(allow_nan=False).map(np.float64)
)
_ARRAYS = st.one_of(
    hnp.arrays(np.float64, hnp.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=4)),
    hnp.arrays(np.int32, (3,)),
)
_VALUES = st.recursive(
    st.one_of(_SCALARS, _ARRAYS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.text(), inner, max_size=4),
        st.builds(Pair, inner, inner),
    ),
    max_leaves=12,
)


@given(value=_VALUES)
def test_values_come_back_to_the_bit(value: Any) -> None:
    assert same(unpacked(packed(value), (Pair,)), value)


def test_glass_comes_back_and_stays_a_value() -> None:
    rng = np.random.default_rng(1)
    glass = Glass(rng.random((5, 3)), np.arange(5) % 2, Box.at_strain(3.0, 0.7), 0.7, {"seed": 2**100, "of": ["a"]})
    again = unpacked(packed([glass, glass.moved(glass.positions + 1.0)]), (Glass, Box))[0]
    assert again.positions.tobytes() == glass.positions.tobytes()
    assert not again.positions.flags.writeable
    assert (again.box, again.strain, again.provenance) == (glass.box, 0.7, glass.provenance)


def test_layout_of_arrays_is_kept() -> None:
    # Sums may run in the order of the memory.
    array_nc = np.arange(12.0).reshape(4, 3)[:, [2, 0, 1]]
    assert unpacked(packed(array_nc)).flags.f_contiguous == array_nc.flags.f_contiguous


def test_array_that_is_shared_is_stored_once() -> None:
    array_nc = np.ones((1000, 3))
    assert len(packed([array_nc] * 5)) < 1.2 * len(packed([array_nc]))


@pytest.mark.parametrize("value", [{1: 2}, object(), np.array([object()]), b"bytes", 1j])
def test_what_is_no_plain_value_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="expected plain values"):
        packed([value])


def test_any_damage_is_noticed() -> None:
    data = packed({"positions": np.arange(30.0), "step": 7})
    for at in range(0, len(data), 7):
        with pytest.raises(ValueError, match="checksum"):
            unpacked(data[:at])
        flipped = bytearray(data)
        flipped[at] ^= 1 << at % 8
        with pytest.raises(ValueError, match="checksum"):
            unpacked(bytes(flipped))


def sealed(payload: bytes) -> bytes:
    """A file whose checksum is right, with somebody else's content."""
    return b"qlm checkpoint 1\n" + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload


class Bomb:
    went_off = False

    def __reduce__(self) -> Any:
        return setattr, (Bomb, "went_off", True)


def test_nothing_in_a_file_is_executed(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pickled = io.BytesIO()
    np.savez(pickled, tree=np.array([Bomb()], dtype=object))
    class_of_others = packed({"key": KEY, "cpu_s": 0.0, "wall_s": 0.0, "state": Pair(1, 2)})
    for data in (sealed(pickled.getvalue()), sealed(pickle.dumps(Bomb())), sealed(b""), class_of_others, b""):
        path.write_bytes(data)
        assert Checkpoint(path, KEY).load() is None
    assert not Bomb.went_off
    assert caplog.text.count("cannot be read") == 5


def test_saved_when_due_and_not_before(path: Path) -> None:
    never = Checkpoint(path, KEY, interval=1e9)
    never.waypoint(lambda: pytest.fail("nothing is due"))
    assert not path.exists()
    always = Checkpoint(path, KEY, interval=0.0)
    for step in range(3):
        always.waypoint(lambda: {"step": step})  # noqa: B023  (called at once)
        assert Checkpoint(path, KEY).load() == {"step": step}
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    always.discard()
    always.discard()
    assert Checkpoint(path, KEY).load() is None


def test_saved_when_the_process_is_asked_to_stop(path: Path) -> None:
    checkpoint = Checkpoint(path, KEY, interval=1e9)
    interrupt.request_stop(15)
    with pytest.raises(interrupt.Interrupted):
        checkpoint.waypoint(lambda: 5)
    assert Checkpoint(path, KEY).load() == 5
    with pytest.raises(interrupt.Interrupted):
        Checkpoint().waypoint(lambda: 5)


@pytest.mark.parametrize(
    "changed", [{"code": "2"}, {"statepoint": {**KEY["statepoint"], "protocol_hash": "b" * 16}}, {"new": 1}]
)
def test_checkpoint_of_another_run_is_not_used(path: Path, changed: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    Checkpoint(path, KEY, interval=0.0).waypoint(lambda: 5)
    assert Checkpoint(path, KEY | changed).load() is None
    assert f"checkpoint of another run ({next(iter(changed))} differ)" in caplog.text


def test_disk_without_room_costs_the_checkpoint_alone(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    nowhere = Checkpoint(path / "not" / "there", KEY, interval=0.0)
    with caplog.at_level(logging.WARNING):
        nowhere.waypoint(lambda: 5)
    assert "cannot be written" in caplog.text


def test_cost_includes_what_was_spent_before(path: Path) -> None:
    Checkpoint(path, KEY, interval=0.0).waypoint(lambda: math.fsum(1.0 / n for n in range(1, 200_000)))
    checkpoint = Checkpoint(path, KEY)
    before = checkpoint.cost
    checkpoint.load()
    loaded = checkpoint.cost
    assert all(after >= spent > 0.0 for after, spent in zip(loaded, before, strict=True))
    # A stage that begins anew all the same has spent nothing yet.
    checkpoint.discard()
    assert checkpoint.cost[1] < loaded[1]


def test_state_that_is_kept_is_read_as_any_other_and_smaller(path: Path) -> None:
    state = {"rows": [{"strain": 1e-4 * row, "q": 1.5} for row in range(500)]}
    checkpoint = Checkpoint(path, KEY, interval=0.0)
    checkpoint.waypoint(lambda: state)
    checkpoint.keep(state, (3.0, 4.0))
    kept = kept_path(path)
    assert kept.stat().st_size < 0.4 * path.stat().st_size
    kept.replace(path)
    again = Checkpoint(path, KEY)
    assert again.load() == state
    assert 3.0 <= again.cost[0] < 3.5
    assert 4.0 <= again.cost[1] < 5.0
    Checkpoint().keep(state, (0.0, 0.0))
    with pytest.raises(NotADirectoryError):
        Checkpoint(path / "not" / "there", KEY).keep(state, (0.0, 0.0))


def test_interval_is_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(INTERVAL_VARIABLE, raising=False)
    assert interval_from_environment() == 600.0
    monkeypatch.setenv(INTERVAL_VARIABLE, "2.5")
    assert interval_from_environment() == 2.5
    for wrong in ("-1", "often", "nan", ""):
        monkeypatch.setenv(INTERVAL_VARIABLE, wrong)
        with pytest.raises(InputError, match=f"{INTERVAL_VARIABLE} = '{wrong}'; expected a number of seconds"):
            interval_from_environment()
