"""Pictures of modes: what they show, and that the page works in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import image
from matplotlib import pyplot as plt
from matplotlib.collections import EllipseCollection
from matplotlib.quiver import Quiver

from qlm_hoomd.box import Box
from qlm_hoomd.errors import InputError
from qlm_hoomd.view import CORE_COLOUR, ModeView

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)


@pytest.fixture(scope="module")
def view() -> ModeView:
    """300 particles in a sheared box; mode 0 lives on one particle at its edge, mode 1 is a plane wave."""
    rng = np.random.default_rng(4)
    box = Box(8.0, 0.3)
    positions_nc = box.wrap(rng.uniform(-4.0, 4.0, size=(300, 3)))
    middle = int(np.argmax(positions_nc[:, 2]))
    distance_n = np.linalg.norm(box.minimum_image(positions_nc - positions_nc[middle]), axis=1)
    localised_nc = rng.normal(size=(300, 3)) / (1.0 + distance_n[:, None] ** 2)
    localised_nc[middle] = [4.0, 2.0, 0.0]
    wave_nc = np.sin(2 * np.pi * positions_nc[:, [1]] / 8.0) * np.array([0.0, 0.0, 1.0])
    modes_mnc = np.array([mode_nc / np.linalg.norm(mode_nc) for mode_nc in (localised_nc, wave_nc)])
    square_mn = (modes_mnc**2).sum(axis=2)
    return ModeView(
        positions=positions_nc,
        diameters=np.where(np.arange(300) < 150, 1.0, 1.4),
        typeid=(np.arange(300) >= 150).astype(np.int32),
        box=box,
        modes=modes_mnc,
        frequencies=np.array([0.4321, 1.25]),
        participation_ratios=1.0 / (300 * (square_mn**2).sum(axis=1)),
        title="made <up> & small",
    )


def test_core_is_what_moves_at_least_half_as_far_as_the_farthest(view: ModeView) -> None:
    size_n = np.linalg.norm(view.modes[0], axis=1)
    assert view.core(0).tolist() == np.flatnonzero(size_n >= 0.5 * size_n.max()).tolist()
    assert 1 <= len(view.core(0)) < 10
    assert len(view.core(1)) == 0
    for wrong in (-1, 2):
        with pytest.raises(InputError, match=f"mode {wrong} asked for; there are the modes 0 to 1"):
            view.core(wrong)


def test_picture_shows_core_and_arrows_around_the_middle(view: ModeView) -> None:
    axes = view.plot(0)
    (arrows,) = [artist for artist in axes.get_children() if isinstance(artist, Quiver)]
    size_n = np.linalg.norm(view.modes[0], axis=1)
    assert len(arrows.U) == (size_n >= 0.2 * size_n.max()).sum()
    # The longest arrow starts in the middle, and lies in the plane of the picture.
    assert np.hypot(arrows.X[0], arrows.Y[0]) < 1e-12
    assert np.hypot(arrows.U[0], arrows.V[0]) == pytest.approx(2.5 * view.diameters.mean(), rel=1e-6)
    others, core = (artist for artist in axes.get_children() if isinstance(artist, EllipseCollection))
    assert len(core.get_offsets()) == len(view.core(0))
    assert len(others.get_offsets()) > 20
    assert "mode 0: ω = 0.4321, participation ratio e = 0.0" in axes.get_title(loc="left")
    plt.close("all")


def test_png_is_a_picture_with_the_colour_of_the_core_in_it(view: ModeView, tmp_path: Path) -> None:
    for index, has_core in ((0, True), (1, False)):
        view.write_png(tmp_path / f"{index}.png", index)
        pixels = image.imread(tmp_path / f"{index}.png")[..., :3]
        assert min(pixels.shape[:2]) > 1000
        core_colour = np.array([int(CORE_COLOUR[place : place + 2], 16) / 255 for place in (1, 3, 5)])
        n_coloured = int((np.abs(pixels - core_colour).max(axis=2) < 0.01).sum())
        assert n_coloured > 500 if has_core else n_coloured == 0


def test_page_is_self_contained_and_escapes_what_is_put_in(view: ModeView, tmp_path: Path) -> None:
    view.write_html(tmp_path / "page.html", 1)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)\s*=|https?:|@import|url\(""", page)
    assert "default-src 'none'" in page
    assert "<title>made &lt;up&gt; &amp; small</title>" in page
    assert "<up>" not in page
    data = _data(page)
    assert (len(data["modes"]), data["first"], data["all"]) == (2, 1, 2)


def _data(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    content = json.loads(found[1])
    assert isinstance(content, dict)
    return content


def test_page_of_very_many_modes_holds_the_lowest_and_the_chosen_one(
    view: ModeView, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qlm_hoomd.view._MOST_BYTES", 3 * 6 * 300)
    many = ModeView(**{**vars(view), "modes": np.repeat(view.modes, 5, axis=0), "frequencies": np.arange(10.0),
                       "participation_ratios": np.full(10, 0.01)})  # fmt: skip
    many.write_html(tmp_path / "page.html", 7)
    data = _data((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert [mode["index"] for mode in data["modes"]] == [0, 1, 2, 7]
    assert (data["first"], data["all"]) == (3, 10)


# Works the page as a reader would, and leaves in the document what came of it.
_READER = """
<script>
const seen = {errors: []};
window.addEventListener("error", (event) => seen.errors.push(event.message));
const picture = () => { waiting = false; render(performance.now()); return canvas.toDataURL(); };
const press = (key) => canvas.dispatchEvent(new KeyboardEvent("keydown", {key, cancelable: true}));
setTimeout(() => {
  // On a busy machine the page may not have drawn yet; the label that it then writes moves the canvas.
  picture();
  const first = picture();
  seen.painted = new Set(context.getImageData(0, 0, canvas.width, canvas.height).data).size > 50;
  seen.labels = [byId("label").textContent];
  const changed = (act) => { const before = picture(); act(); return picture() !== before; };
  seen.keys = ["ArrowLeft", "ArrowUp", "+", "n"].map((key) => changed(() => press(key)));
  seen.labels.push(byId("label").textContent);
  press("p"); press("0");
  seen.back = picture() === first;
  seen.amplitude = changed(() => { byId("amplitude").value = 6; byId("amplitude").dispatchEvent(new Event("input")); });
  seen.choice = changed(() => { byId("mode").selectedIndex = 1; byId("mode").dispatchEvent(new Event("change")); });
  const at = (x) => ({pointerId: 1, clientX: x, clientY: 50, bubbles: true});
  canvas.setPointerCapture = () => {};
  seen.drag = changed(() => { canvas.dispatchEvent(new PointerEvent("pointerdown", at(10)));
    canvas.dispatchEvent(new PointerEvent("pointermove", at(60))); canvas.dispatchEvent(new PointerEvent("pointerup", at(60))); });
  seen.released = !changed(() => canvas.dispatchEvent(new PointerEvent("pointermove", at(200))));
  seen.wheel = changed(() => canvas.dispatchEvent(new WheelEvent("wheel", {deltaY: -200, cancelable: true})));
  byId("play").click(); seen.playing = byId("play").getAttribute("aria-pressed"); byId("play").click();
  seen.overflow = document.documentElement.scrollWidth > document.documentElement.clientWidth;
  document.title = JSON.stringify(seen);
}, 300);
</script>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome is installed; the page is opened by hand then")
@pytest.mark.parametrize("width", [1280, 500])
def test_page_works_in_a_browser(view: ModeView, tmp_path: Path, width: int) -> None:
    view.write_html(tmp_path / "page.html", 0)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    (tmp_path / "read.html").write_text(page.replace("</body>", _READER + "</body>"), encoding="utf-8")
    done = subprocess.run(
        [
            str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
            "--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900",
            "--enable-logging=stderr", "--virtual-time-budget=4000", "--dump-dom", (tmp_path / "read.html").as_uri(),
        ],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr, done.stderr
    title = re.search(r"<title>(\{.*?\})</title>", done.stdout)
    assert title is not None, done.stdout[:500]
    seen = json.loads(title[1].replace("&amp;", "&"))
    assert seen["errors"] == []
    assert seen["painted"]
    assert seen["keys"] == [True] * 4
    assert seen["labels"][0].startswith("Mode 0: ω = 0.4321, participation ratio e = 0.0")
    assert f"core of {len(view.core(0))} particles of 300" in seen["labels"][0]
    assert seen["labels"][1].startswith("Mode 1: ω = 1.250")
    assert "extended: no core" in seen["labels"][1]
    for action in ("back", "amplitude", "choice", "drag", "released", "wheel"):
        assert seen[action], action
    assert seen["playing"] == "true"
    assert not seen["overflow"]
