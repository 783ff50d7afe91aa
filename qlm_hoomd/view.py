"""Pictures of modes: a still one (PNG), and a page with an interactive view in three dimensions (HTML) that needs nothing else."""

# Array names carry their axes: m modes, n particles, c Cartesian components.

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qlm_hoomd.base.errors import InputError
from qlm_hoomd.base.files import replacing
from qlm_hoomd.base.version import __version__

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from qlm_hoomd.box import Box

TYPE_COLOURS = ("#8fb8de", "#b9bec6", "#9fd0b4", "#d9c58f", "#c4a9d6", "#c8b6a6")
"""Colours of the particle types, again from the start after the last."""

INK = "#1d1f24"
"""Colour of the arrows; that of the text in the figures of a report."""

CORE_COLOUR = "#d55e00"
"""Colour of a mode's core."""

HELP = "Arrow keys rotate, plus and minus zoom, space plays, 0 resets."
"""The keys of the interactive view, for those who hear the page."""

# The core moves at least this part of the largest displacement; where a larger part of all particles does, there is no core.
_CORE_MOVES = 0.5
_LARGEST_CORE = 0.05
# Arrows from this part of the largest displacement up, and so many at most.
_SHORTEST_ARROW = 0.2
_MOST_ARROWS = 400
# The page holds modes up to this many bytes; browsers take more, readers do not.
_MOST_BYTES = 24_000_000


@dataclass(frozen=True, eq=False)
class ModeView:
    """Modes of one configuration, ready to be looked at.

    Args:
        positions: ((N, 3) ndarray) positions, in any periodic image [length].
        diameters: ((N,) ndarray) size at which a particle is drawn [length].
        typeid: ((N,) ndarray of int) particle types, which set the colour.
        box: periodic box.
        modes: ((M, N, 3) ndarray) normalised modes.
        frequencies: ((M,) ndarray) [1 / t_c].
        participation_ratios: ((M,) ndarray).
        title: what it is, in a few words.
    """

    positions: NDArray[np.float64]
    diameters: NDArray[np.float64]
    typeid: NDArray[np.int32]
    box: Box
    modes: NDArray[np.float64]
    frequencies: NDArray[np.float64]
    participation_ratios: NDArray[np.float64]
    title: str

    def core(self, index: int) -> NDArray[np.intp]:
        """((n,) ndarray) the particles that move at least half as much as the one that moves most; none in an extended mode."""
        self._check(index)
        size_n = self._sizes(index)
        core_n = np.flatnonzero(size_n >= _CORE_MOVES * size_n.max())
        return core_n if len(core_n) <= _LARGEST_CORE * len(size_n) else core_n[:0]

    def plot(self, index: int, ax: Axes | None = None) -> Axes:
        """The layer of particles around the middle of mode ``index``, seen along the axis in which the mode moves least.

        Arrows show the largest displacements, in the whole box; those far above or below the layer are paler.
        """
        from matplotlib.collections import EllipseCollection
        from matplotlib.colors import to_rgb
        from matplotlib.lines import Line2D

        core_n = self.core(index)
        if ax is None:
            from matplotlib import pyplot as plt

            _, ax = plt.subplots(layout="constrained")
        mode_nc, size_n = self.modes[index], self._sizes(index)
        centred_nc = self.box.wrap(self.positions - self.positions[size_n.argmax()])
        depth = int((mode_nc**2).sum(axis=0).argmin())
        across, up = (axis for axis in range(3) if axis != depth)
        layer_n = np.flatnonzero(np.abs(centred_nc[:, depth]) < 0.5 * float(self.diameters.max()))
        layer_n = np.setdiff1d(layer_n, core_n)
        types = [TYPE_COLOURS[number % len(TYPE_COLOURS)] for number in self.typeid[layer_n]]
        for shown_n, colours, order in ((layer_n, types, 1), (core_n, CORE_COLOUR, 2)):
            by_depth_n = np.argsort(centred_nc[shown_n, depth])
            ax.add_collection(
                EllipseCollection(
                    self.diameters[shown_n][by_depth_n], self.diameters[shown_n][by_depth_n], np.zeros(len(shown_n)), units="xy",
                    offsets=centred_nc[shown_n][by_depth_n][:, [across, up]], offset_transform=ax.transData,
                    facecolors=np.array(colours)[by_depth_n].tolist() if shown_n is layer_n else colours,
                    edgecolors="white", linewidths=0.8, zorder=order,
                )
            )  # fmt: skip
        arrow_n = np.flatnonzero(size_n >= _SHORTEST_ARROW * size_n.max())
        arrow_n = arrow_n[np.argsort(-size_n[arrow_n])][:_MOST_ARROWS]
        longest = 2.5 * float(self.diameters.mean()) / float(size_n.max())
        half = 0.5 * max(self.box.lx, self.box.ly, self.box.lz)
        opacity_n = 1.0 - 0.8 * np.clip(np.abs(centred_nc[arrow_n, depth]) / half, 0.0, 1.0)
        ax.quiver(
            centred_nc[arrow_n, across], centred_nc[arrow_n, up],
            longest * mode_nc[arrow_n, across], longest * mode_nc[arrow_n, up],
            angles="xy", scale_units="xy", scale=1.0, units="xy", width=0.09 * float(self.diameters.mean()),
            headwidth=3.2, headlength=3.6, headaxislength=3.2, minshaft=1.5, minlength=0.0,
            color=[(*to_rgb(INK), float(opacity)) for opacity in opacity_n], zorder=3,
        )  # fmt: skip
        reach = 1.06 * np.abs(centred_nc[:, [across, up]]).max(axis=0)
        ax.set(xlim=(-reach[0], reach[0]), ylim=(-reach[1], reach[1]), aspect="equal")
        ax.set_xlabel(f"{'xyz'[across]} [length]")
        ax.set_ylabel(f"{'xyz'[up]} [length]")
        ax.set_title(f"{self.title}\n{self._label(index)}", fontsize=11, loc="left")
        handles = [
            Line2D([], [], marker="o", ls="", ms=9, color=TYPE_COLOURS[number % len(TYPE_COLOURS)], label=f"type {number}")
            for number in np.unique(self.typeid)
        ]
        if len(core_n):
            handles.append(Line2D([], [], marker="o", ls="", ms=9, color=CORE_COLOUR, label=f"core: {len(core_n)} particles"))
        ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.09), ncols=len(handles), frameon=False)
        return ax

    def write_png(self, path: Path, index: int) -> None:
        """Write the picture of mode ``index``."""
        from matplotlib import pyplot as plt

        figure, ax = plt.subplots(figsize=(7.2, 7.6), layout="constrained")
        self.plot(index, ax)
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png", dpi=160, metadata={"Software": f"qlm_hoomd {__version__}"})
        plt.close(figure)

    def write_html(self, path: Path, index: int) -> None:
        """Write the page, which opens with mode ``index``. It loads nothing from anywhere."""
        import jinja2

        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
        )
        template = environment.get_template("view.html.j2")
        page = template.render(title=self.title, version=__version__, help=HELP, data=self.data(index))
        with replacing(path) as temporary:
            temporary.write_text(page, encoding="utf-8")

    def data(self, index: int, held: Sequence[int] | None = None) -> dict[str, Any]:
        """What ``view.js`` reads; arrays as base64, displacements in parts of the mode's largest component.

        Args:
            index: mode that is shown first.
            held: modes that are in it, ascending; by default all, or the lowest ones that do not make it too large.
        """
        self._check(index)
        fractional_nc = self.box.fractional(self.positions)
        most = max(1, _MOST_BYTES // (6 * len(self.positions)))
        if held is None:
            held = sorted({*range(min(most, len(self.modes))), index})
        types, number_n = np.unique(self.typeid, return_inverse=True)
        modes = []
        for mode in held:
            scale = float(np.abs(self.modes[mode]).max())
            modes.append(
                {
                    "index": mode,
                    "frequency": float(self.frequencies[mode]),
                    "ratio": float(self.participation_ratios[mode]),
                    "core": len(self.core(mode)),
                    "vectors": _base64(np.rint(self.modes[mode] / scale * 32767.0).astype("<i2")),
                }
            )
        return {
            "matrix": self.box.matrix.tolist(),
            "places": _base64((fractional_nc - np.rint(fractional_nc)).astype("<f4")),
            "diameters": _base64(self.diameters.astype("<f4")),
            "types": _base64(number_n.astype("<u1")),
            "typeNames": [f"type {number}" for number in types.tolist()],
            "typeColours": [TYPE_COLOURS[number % len(TYPE_COLOURS)] for number in types.tolist()],
            "coreColour": CORE_COLOUR,
            "coreMoves": _CORE_MOVES,
            "modes": modes,
            "all": len(self.modes),
            "first": list(held).index(index),
        }

    def _sizes(self, index: int) -> NDArray[np.float64]:
        return np.asarray(np.sqrt((self.modes[index] ** 2).sum(axis=1)))

    def _label(self, index: int) -> str:
        return (
            f"mode {index}: ω = {self.frequencies[index]:.4g}, participation ratio e = {self.participation_ratios[index]:.3g}"
        )

    def _check(self, index: int) -> None:
        if not 0 <= index < len(self.modes):
            raise InputError(f"mode {index} asked for; there are the modes 0 to {len(self.modes) - 1}.")


def _base64(array: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
