"""What all tests share: the rule for HOOMD-blue, a line on it in the summary, and hypothesis without a stop-watch."""

from __future__ import annotations

import signal
from importlib.util import find_spec
from itertools import product
from typing import TYPE_CHECKING

import hypothesis
import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from qlm_hoomd.engines.cpu import CPUEngineSettings
from qlm_hoomd.errors import BasinLost
from qlm_hoomd.glass import Glass
from qlm_hoomd.model import GlassModel
from qlm_hoomd.preparation import random_start

if TYPE_CHECKING:
    from collections.abc import Callable

    from _pytest.terminal import TerminalReporter
    from numpy.typing import NDArray

    from qlm_hoomd.box import Box

NO_HOOMD = "HOOMD-blue is not installed in this interpreter (it is on conda-forge: environment.yml)"

# The first call of a compiled kernel takes seconds, the next ones microseconds: time says nothing about a property.
hypothesis.settings.register_profile("qlm", deadline=None)
hypothesis.settings.load_profile("qlm")
# Tests run one to a core (pytest -n); linear algebra on several threads would then wait for itself, twenty times over.
threadpool_limits(limits=1)


# A job in the background is born deaf to Ctrl-C, one under nohup to a closed terminal too; the tests send these signals, and so
# must be processes that hear them.
for _signal, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_signal) == signal.SIG_IGN:
        signal.signal(_signal, _handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--hoomd-device gpu``: what asks HOOMD-blue for a CPU gets the card."""
    parser.addoption("--hoomd-device", choices=("cpu", "gpu"), default="cpu", help="where tests run HOOMD-blue")


def pytest_configure(config: pytest.Config) -> None:
    """See :func:`pytest_addoption`."""
    if config.getoption("--hoomd-device") == "gpu":
        import hoomd

        patch = pytest.MonkeyPatch()
        patch.setattr(hoomd.device, "CPU", hoomd.device.GPU)
        config.add_cleanup(patch.undo)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs HOOMD-blue where there is none."""
    if find_spec("hoomd") is not None:
        return
    for item in items:
        if item.get_closest_marker("hoomd") is not None:
            item.add_marker(pytest.mark.skip(reason=NO_HOOMD))


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Say how many tests met the real HOOMD-blue, so that a green run cannot hide that none did."""
    ran, skipped = set(), set()
    for outcome, reports in terminalreporter.stats.items():
        if outcome == "deselected":
            continue
        for report in reports:
            if "hoomd" in getattr(report, "keywords", {}):
                (skipped if outcome == "skipped" else ran).add(report.nodeid)
    # The teardown of a skipped test is reported too.
    ran -= skipped
    why = f" ({NO_HOOMD})" if skipped and find_spec("hoomd") is None else ""
    terminalreporter.write_line(f"tests with HOOMD-blue: {len(ran)} ran, {len(skipped)} skipped{why}")


@pytest.fixture(scope="session")
def model() -> GlassModel:
    """The paper's glass."""
    return GlassModel()


def _liquid(model: GlassModel, n_particles: int, seed: int) -> Glass:
    # Short, so that chaos has no time to make the test glasses of two processors different ones.
    rng = np.random.default_rng(seed)
    engine = CPUEngineSettings().build(model)
    return engine.run(random_start(model, n_particles, rng), duration=1.0, temperature=model.T0, rng=rng)[0]


@pytest.fixture(scope="session")
def liquid(model: GlassModel) -> Glass:
    """A liquid of 500 particles at T0."""
    return _liquid(model, 500, 1)


@pytest.fixture(scope="session")
def small_liquid(model: GlassModel) -> Glass:
    """A liquid of 100 particles at T0: disordered, under stress, with forces of order 100."""
    return _liquid(model, 100, 2)


@pytest.fixture(scope="session")
def disordered() -> Callable[[Box, float, int], Glass]:
    """Particles of two types on a shaken grid of the given spacing in any box: disordered, under stress, far from a minimum."""

    def make(box: Box, spacing: float, seed: int) -> Glass:
        rng = np.random.default_rng(seed)
        counts = [max(1, round(edge / spacing)) for edge in (box.lx, box.ly, box.lz)]
        grid_nc = np.stack(np.meshgrid(*[np.arange(count) / count for count in counts]), axis=-1).reshape(-1, 3)
        shake_nc = rng.uniform(-0.13, 0.13, size=grid_nc.shape) / counts
        shake_nc[:, 2] *= box.lz > 0.0
        positions_nc = (grid_nc + shake_nc) @ box.matrix
        return Glass(box.wrap(positions_nc), rng.permutation(np.arange(len(grid_nc)) % 2), box, box.xy)

    return make


@pytest.fixture(scope="session")
def quenched(model: GlassModel, liquid: Glass) -> Glass:
    """A rapidly quenched glass of 500 particles."""
    return CPUEngineSettings().build(model).descend(liquid)[0]


@pytest.fixture(scope="session")
def beyond_instability(model: GlassModel) -> Callable[[Glass, float], Glass]:
    """Shears a glass at rest to its next instability: the affine state that much strain, or less, beyond the fold."""

    def find(state: Glass, resolution: float) -> Glass:
        engine, increment = CPUEngineSettings().build(model), 1e-3
        while True:
            affine = state.sheared(increment)
            try:
                state, _ = engine.relax(affine, after_event=None)
            except BasinLost:
                if increment <= resolution:
                    return affine
                increment = max(0.1 * increment, resolution)

    return find


Pairs = tuple["NDArray[np.intp]", "NDArray[np.intp]", "NDArray[np.float64]"]


@pytest.fixture(scope="session")
def pairs_within() -> Callable[[NDArray[np.float64], Box, float], Pairs]:
    """Pairs by brute force: i, j and the vector from i to j for every image closer than a distance below half the box."""
    images_sc = np.array(list(product((-2, -1, 0, 1, 2), (-1, 0, 1), (-1, 0, 1))), dtype=float)

    def find(positions_nc: NDArray[np.float64], box: Box, reach: float) -> Pairs:
        # In two dimensions one layer, far from its images.
        matrix_cc = box.matrix + np.diag([0.0, 0.0, 1e3 if box.lz == 0.0 else 0.0])
        fractional_nc = positions_nc @ np.linalg.inv(matrix_cc)
        folded_nc = (fractional_nc - np.floor(fractional_nc)) @ matrix_cc
        i_p, j_p = np.triu_indices(len(positions_nc), 1)
        r_pc = folded_nc[j_p] - folded_nc[i_p]
        r_psc = r_pc[:, None, :] + images_sc @ matrix_cc
        pair, image = np.nonzero(np.einsum("psc,psc->ps", r_psc, r_psc) < reach**2)
        return i_p[pair], j_p[pair], r_psc[pair, image]

    return find
