"""The map's viewer in a real browser: opened from file://, moved, zoomed, clicked, filtered."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest

from browser import Browser
from selfie.experiments import viewer

SIDE = 100  # selfies lie on a square of SIDE x SIDE


def selfie(number: int) -> np.ndarray:
    """A picture of one colour that tells its number, with a fine pattern that 48 pixels cannot hold."""
    picture = np.full((144, 144, 3), (50 + number % 100, 50 + number // 100 % 100, 128), np.uint8)
    picture[:, ::3] += 60
    return picture


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """The viewer of 10,000 selfies: number n at column n % 100, row n // 100; scores rise with n."""
    count, out = SIDE * SIDE, tmp_path_factory.mktemp("viewer")
    table = pl.DataFrame(
        {
            "name": [f"selfie {number:05}" for number in range(count)],
            "x": [float(number % SIDE) for number in range(count)],
            "y": [-float(number // SIDE) for number in range(count)],
            "score": (np.arange(count) + 0.5) / count,
        }
    )
    small = viewer.write(out, table, map(selfie, range(count)), "A test of <10,000> selfies")
    assert small.shape == (count, 48, 48, 3)
    return out / "index.html"


@pytest.fixture(scope="module")
def browser():
    """One window for the whole module."""
    with Browser(1280, 800) as window:
        yield window


@pytest.fixture
def opened(browser, page) -> Browser:
    """The page, freshly opened, all thumbnails loaded."""
    browser.open("about:blank")
    browser.open(page)
    browser.wait("document.body.dataset.ready")
    return browser


def where(browser: Browser, number: int) -> tuple[float, float]:
    """Where a selfie's centre is on the screen."""
    return tuple(browser.run(f"[view.left + view.scale * placeX[{number}], view.top + view.scale * placeY[{number}]]"))


def pixel(browser: Browser, tmp_path: Path, x: float, y: float) -> np.ndarray:
    """BGR of the screen around a point, as a number each."""
    seen = cv2.imread(str(browser.screenshot(tmp_path / "seen.png")))
    return seen[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2].reshape(-1, 3).mean(axis=0)


def test_it_needs_nothing_but_its_own_folder(opened, page):
    """From file://, without an error, and nothing is asked for from elsewhere."""
    assert not opened.errors()
    asked = [address for address in opened.requests() if not address.startswith(("data:", "about:"))]
    assert asked and all(address.startswith(page.parent.as_uri() + "/") for address in asked)
    assert len(list(page.parent.iterdir())) < 60, "sprites: few files however many selfies"
    assert opened.run("document.getElementById('title').textContent") == "A test of <10,000> selfies"


def test_each_selfie_is_drawn_at_its_place(opened, tmp_path):
    """Zoomed in on any selfie, the screen shows its colour: sprites, places and directions fit."""
    for number in (0, 99, 1763, 1764, 4250, 9999):
        opened.run(
            f"(fit(), zoom(12, view.left + view.scale * placeX[{number}], "
            f"view.top + view.scale * placeY[{number}]), "
            f"move(640 - view.left - view.scale * placeX[{number}], "
            f"400 - view.top - view.scale * placeY[{number}]), repaint(), "
            f"new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done))))"
        )
        seen = pixel(opened, tmp_path, *where(opened, number))
        expected = selfie(number).mean(axis=(0, 1))
        np.testing.assert_allclose(seen, expected, atol=8, err_msg=str(number))


def test_dragging_moves_and_the_wheel_zooms_about_the_mouse(opened):
    """As on any map; dragging selects nothing."""
    x, y = where(opened, 5050)
    opened.drag([(600, 400), (650, 430), (700, 450)])
    assert where(opened, 5050) == pytest.approx((x + 100, y + 50))
    assert opened.run("element('card').hidden")
    before = opened.run("view.scale")
    under = where(opened, 2345)
    opened.mouse("mouseWheel", *under, deltaX=0, deltaY=-300)
    opened.wait(f"view.scale > 1.3 * {before}")
    assert where(opened, 2345) == pytest.approx(under, abs=2), "a mouse event's place is whole pixels"
    opened.run("element('fit').click()")
    assert where(opened, 5050) == pytest.approx((x, y))


def test_a_click_shows_the_selfie_its_name_score_and_rank(opened, tmp_path):
    """The card holds the right selfie at 128 pixels; Esc closes it."""
    opened.run("zoom(10, ...[view.left + view.scale * placeX[7432], view.top + view.scale * placeY[7432]])")
    opened.click(*where(opened, 7432))
    opened.wait("element('card').dataset.selfie == 7432")
    text = opened.run("element('card').innerText")
    assert "74.3 %" in text and "number 2568 of 10000" in text and "selfie 07432" in text
    box = opened.run("(r => [r.x + r.width / 2, r.y + r.height / 2])(element('picture').getBoundingClientRect())")
    np.testing.assert_allclose(pixel(opened, tmp_path, *box), selfie(7432).mean(axis=(0, 1)), atol=35)
    for kind in ("keyDown", "keyUp"):
        opened.call("Input.dispatchKeyEvent", type=kind, key="Escape", code="Escape", windowsVirtualKeyCode=27)
    opened.wait("element('card').hidden")


def test_a_bad_selfie_is_never_larger_than_48_pixels(opened, page):
    """Neither on the screen nor in the files, where the fine pattern is gone for them and there for the others."""
    opened.run("select(4999)")
    opened.wait("element('card').dataset.selfie == 4999")
    assert opened.run("element('picture').getBoundingClientRect().width") == 48
    opened.run("(zoom(100), 0)")
    assert opened.run("thumbnailSize()") == 48
    sheets = {number: cv2.imread(str(page.parent / f"large-{number}.jpg")) for number in (19, 20)}
    assert sheets[19][:128, :128, 0].std(axis=1).mean() < 6 < 12 < sheets[20][:128, :128, 0].std(axis=1).mean()


def test_filter_and_colour(opened, tmp_path):
    """Good and bad divide the selfies at 50 %; a hidden selfie cannot be clicked; colours tell bad from good."""
    for choice, text in (("good", "5000 of 10000 selfies"), ("bad", "5000 of 10000 selfies"), ("all", "10000 selfies")):
        opened.run(f"(element('filter').value = '{choice}', element('filter').dispatchEvent(new Event('change')))")
        assert opened.run("element('status').textContent") == text
        assert (
            opened.run("selfieAt(view.left + view.scale * placeX[30], view.top + view.scale * placeY[30])") == -1
        ) == (choice == "good")
    opened.run("(element('colour').click(), new Promise(done => setTimeout(done, 100)))")
    bad, good = (pixel(opened, tmp_path, *where(opened, number)) for number in (150, 9850))
    assert bad[2] > bad[0] + 60 and good[0] > good[2] + 60, "red is bad, blue is good"
    assert opened.run("element('legend').innerText").split("\n") == ["0 %", "100 %"]


def test_a_placed_selfie_is_marked(browser, page, tmp_path):
    """The address that tsne_map --place prints shows a ring where the new selfie goes."""
    browser.open("about:blank")
    browser.open(f"{page.as_uri()}#x=50.5&y=-50.5")
    browser.wait("document.body.dataset.ready && marker")
    x, y = browser.run("[view.left + view.scale * unitX(50.5), view.top + view.scale * unitY(-50.5)]")
    radius = browser.run("thumbnailSize() * 0.5 + 10")
    seen = pixel(browser, tmp_path, x + radius, y)
    assert seen[2] > 180 and seen[1] > 150 and seen[0] < 140, "yellow"


@pytest.mark.timing
def test_ten_thousand_thumbnails_move_smoothly(opened):
    """While moving, a frame is drawn in well under 40 ms, even without a graphics card."""
    script = (
        "new Promise(done => { let frames = 0, first = performance.now();"
        "const step = () => { move(frames % 40 < 20 ? 4 : -4, 0);"
        "if (++frames < 80) requestAnimationFrame(step); else done((performance.now() - first) / frames); };"
        "requestAnimationFrame(step); })"
    )
    assert opened.run(script) < 40


def test_it_fits_a_phone(browser, page):
    """At 390 x 844 pixels nothing is wider than the screen, and the card can be closed."""
    browser.call("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=2, mobile=True)
    try:
        browser.open("about:blank")
        browser.open(page)
        browser.wait("document.body.dataset.ready")
        browser.run("select(9000)")
        for part in ("header", "#card", "#close"):
            left, right, bottom = browser.run(
                f"(r => [r.left, r.right, r.bottom])(document.querySelector('{part}').getBoundingClientRect())"
            )
            assert left >= 0 and right <= 390 and bottom <= 844, part
    finally:
        browser.call("Emulation.clearDeviceMetricsOverride")
