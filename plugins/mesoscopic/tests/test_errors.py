"""What goes wrong in a worker process arrives whole."""

from __future__ import annotations

import pickle

import pytest
from qlm_mesoscopic.errors import NotEnoughDataError, RunawayAvalanche, enough
from qlm_mesoscopic.meanfield import MeanField


def test_numbers_of_an_error_survive_pickling() -> None:
    with pytest.raises(NotEnoughDataError, match=r"^3 blocks; expected at least 5\. Take more\.$") as few:
        enough("blocks", 3, 5, "Take more.")
    with pytest.raises(RunawayAvalanche) as runaway:
        MeanField(100, 0.6, largest_avalanche=2.0).quench()
    for error in (few.value, runaway.value):
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error)
        assert str(copy) == str(error)
        assert vars(copy).keys() == vars(error).keys()
    assert pickle.loads(pickle.dumps(few.value)).needed == 5
    copy = pickle.loads(pickle.dumps(runaway.value))
    assert (copy.failures, copy.stress) == (runaway.value.failures, runaway.value.stress)
    assert copy.run.failures == runaway.value.run.failures > 200
