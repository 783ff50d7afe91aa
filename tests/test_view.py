"""Pictures of modes: what they show, and that the page works in a real browser."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
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
from tests.browser import CHROMIUM, WHY_NOT, Browser, opened


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
    found = re.search(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)
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


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests of this module."""
    with opened(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.mark.skipif(CHROMIUM is None, reason=WHY_NOT)
@pytest.mark.parametrize("width", [1280, 400])
def test_page_works_in_a_browser(view: ModeView, tmp_path: Path, browser: Browser, width: int) -> None:
    view.write_html(tmp_path / "page.html", 0)
    browser.requests.clear()
    browser.complaints.clear()
    browser.show(width=width)
    browser.open(tmp_path / "page.html")

    def picture() -> Any:
        browser.drawn()
        return browser.ask("picture()")

    def label() -> str:
        return str(browser.ask("document.querySelector('.label').textContent"))

    def changes(act: Callable[[], Any]) -> bool:
        before = picture()
        act()
        return bool(picture() != before)

    first = picture()
    assert browser.ask(
        "(({context: c, canvas}) => new Set(c.getImageData(0, 0, canvas.width, canvas.height).data).size)"
        "({context: document.querySelector('canvas').getContext('2d'), canvas: document.querySelector('canvas')})"
    ) > 50  # fmt: skip
    assert label().startswith("Mode 0: ω = 0.4321, participation ratio e = 0.0")
    assert f"core of {len(view.core(0))} particles of 300" in label()
    browser.ask("document.querySelector('canvas').focus()")
    for key in ("ArrowLeft", "ArrowUp", "+", "n"):
        assert changes(lambda key=key: browser.press(key)), key
    assert label().startswith("Mode 1: ω = 1.250")
    assert "extended: no core" in label()
    browser.press("p")
    browser.press("0")
    assert picture() == first
    for name, how in (("amplitude", "part.value = 6, 'input'"), ("mode", "part.selectedIndex = 1, 'change'")):
        assert changes(
            lambda name=name, how=how: browser.ask(
                f"(() => {{ const part = document.querySelector('[name={name}]'); part.dispatchEvent(new Event(({how}))); }})()"
            )
        ), name
    left, top, wide, high = browser.ask(
        "(({left, top, width, height}) => [left, top, width, height])(document.querySelector('canvas').getBoundingClientRect())"
    )
    start, end = (left + 0.3 * wide, top + 0.5 * high), (left + 0.5 * wide, top + 0.6 * high)
    assert changes(lambda: browser.drag(start, end))
    assert not changes(lambda: browser.mouse("mouseMoved", left + 0.9 * wide, top + 0.2 * high))
    assert changes(lambda: browser.mouse("mouseWheel", *start, deltaX=0, deltaY=-200))
    browser.ask("document.querySelector('[name=play]').click()")
    assert browser.ask("document.querySelector('[name=play]').getAttribute('aria-pressed')") == "true"
    browser.ask("document.querySelector('[name=play]').click()")
    assert browser.ask("document.documentElement.scrollWidth") <= width
    assert browser.complaints == []
    assert {url for url in browser.requests if not url.startswith("data:")} == {(tmp_path / "page.html").as_uri()}
