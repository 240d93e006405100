"""The page in a real browser: ways in, what is shown, errors, a phone, the keyboard."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest

import testlib
from browser import Browser
from selfie.common import paths
from selfie.data import image
from selfie.experiments import findings
from selfie.runs import evaluate, score
from selfie.runs.run_folder import Run

if find_spec("fastapi") is None:
    testlib.skip("serve", "pip install -r requirements-dev.txt", whole_module=True)

import requests
from servers import Server, application, serving

from selfie.serve.explainer import Explainer

RESULT, EXPLAINED = "!element('result').hidden", "element('why-note').textContent"


@pytest.fixture(scope="module")
def measured_run(tiny_run, tmp_path_factory) -> Run:
    """A copy of tiny_run whose training selfies were measured, as tools/findings.py measures the test selfies."""
    run = Run(shutil.copytree(tiny_run.folder, tmp_path_factory.mktemp("measured") / "tiny"), tiny_run.info)
    folder = run.database("train")
    measured = evaluate.score_database(run, folder).join(findings.measure(folder, detector="lbp", jobs=1), on="key")
    paths.write_csv(run.folder / "test_properties.csv", measured)
    return run


@pytest.fixture(scope="module")
def explaining(measured_run) -> Iterator[Server]:
    with serving(measured_run.folder, "--per-minute", 0) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser(1280, 800) as window:
        yield window


@pytest.fixture
def opened(browser, explaining) -> Browser:
    """The page, freshly opened."""
    browser.open("about:blank")
    browser.open(explaining.address)
    browser.wait("document.body.dataset.ready")
    return browser


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Path:
    """A JPEG of 600 x 400 pixels, dark on the left and bright on the right."""
    picture = np.random.default_rng(0).normal(0, 30, (400, 600, 3)) + np.linspace(40, 220, 600)[:, None]
    file = tmp_path_factory.mktemp("photo") / "photo.jpg"
    image.write(file, picture.clip(0, 255).astype(np.uint8))
    return file


def key(browser: Browser, name: str, code: int, text: str = "") -> None:
    browser.call("Input.dispatchKeyEvent", type="keyDown", key=name, code=name, windowsVirtualKeyCode=code, text=text)
    browser.call("Input.dispatchKeyEvent", type="keyUp", key=name, code=name, windowsVirtualKeyCode=code)


def shown(browser: Browser, name: str) -> str:
    return browser.run(f"element('{name}').innerText")


def focused(browser: Browser) -> str:
    return browser.run("document.activeElement.id || document.activeElement.innerText")


def width_of_everything(browser: Browser) -> int:
    return browser.run("document.documentElement.scrollWidth")


def test_an_upload_shows_score_percentile_crop_and_properties(opened, photo, measured_run, explaining):
    """The numbers of the command; the crop lies where the server's stands; nothing is asked of another host."""
    (wanted,) = score.score(measured_run, [str(photo)])
    opened.choose("#file", photo)
    opened.wait(f"{RESULT} && {EXPLAINED}")
    assert shown(opened, "number").replace("\n", "") == f"{100 * wanted.score:.1f} %"
    assert f"beats {wanted.percentile:.0f} of 100" in shown(opened, "sentence")
    assert opened.run("element('picture').naturalWidth") == 600
    frame, crop = (
        opened.run(f"(r => [r.left, r.top, r.width, r.height])({one}.getBoundingClientRect())")
        for one in ("element('picture')", "element('crop')")
    )
    assert crop[2] == pytest.approx(crop[3], abs=2), "a square in the picture is one on the screen"
    assert frame[0] <= crop[0] + 1 and crop[0] + crop[2] <= frame[0] + frame[2] + 1
    assert crop[2] < frame[2] and "best square crop" in shown(opened, "caption")
    assert opened.run("element('properties').children.length") >= 1 and "64 selfies" in shown(opened, "why-note")
    opened.run("element('toggle').click()")
    assert opened.run("element('crop').hidden") and shown(opened, "toggle") == "Show the best crop"
    hosts = [one for one in opened.requests() if not one.startswith(("about:", "blob:", "data:", explaining.address))]
    assert hosts == [] and not opened.run("document.cookie") and opened.run("localStorage.length") == 0
    assert [one for one in opened.errors() if not json.loads(one).get("canceled")] == []


def test_another_picture_starts_again(opened, photo):
    """The result goes, the ways in come back, with the keyboard where one goes on."""
    opened.choose("#file", photo)
    opened.wait(RESULT)
    assert opened.run("element('entry').hidden") and focused(opened) == "result"
    opened.run("element('again').click()")
    assert opened.run("element('result').hidden && !element('entry').hidden") and focused(opened) == "file"


def test_an_address_that_is_refused_says_why(opened):
    """Typed and sent by the keyboard alone; the ways in stay."""
    opened.run("element('address').focus()")
    opened.call("Input.insertText", text="http://127.0.0.1/selfie.jpg")
    key(opened, "Enter", 13, "\r")
    opened.wait("!element('error').hidden")
    assert shown(opened, "error") == "This address is not on the public internet."
    assert opened.run("!element('entry').hidden && element('busy').hidden && element('result').hidden")


def test_an_address_is_scored_and_shown(browser, measured_run, scorer, photo, loopback):
    """The browser never asks the foreign host: the picture comes from the server, which has fetched it."""
    intake, address = loopback(photo.parent)
    with Explainer(measured_run) as explainer, application(scorer, explainer=explainer, intake=intake) as ours:
        browser.open(ours)
        browser.wait("document.body.dataset.ready")
        before = len(browser.requests())
        browser.run(f"(element('address').value = '{address}photo.jpg', element('by-address').requestSubmit())")
        browser.wait(f"{RESULT} && {EXPLAINED} && !element('photo').hidden")
        assert browser.run("[element('picture').src.slice(0, 15), element('picture').naturalWidth]") == [
            "data:image/jpeg",
            600,
        ]
        assert not [one for one in browser.requests()[before:] if one.startswith(address)]
        browser.run(f"(element('again').click(), element('address').value = '{address}no.jpg')")
        browser.run("element('by-address').requestSubmit()")
        browser.wait("element('error').innerText.includes('404')")
        browser.open("about:blank")


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_picture_can_be_dropped_and_pasted(opened, photo, way):
    """A file; what holds no picture says so."""
    data = base64.b64encode(photo.read_bytes()).decode()
    script = """(() => { const transfer = new DataTransfer(); %s;
        const event = '%s' === 'drop' ? new DragEvent('drop', {dataTransfer: transfer, bubbles: true, cancelable: true})
            : new ClipboardEvent('paste', {clipboardData: transfer, bubbles: true, cancelable: true});
        document.body.dispatchEvent(event); })()"""
    opened.run(script % ("transfer.setData('text/plain', 'no picture')", way))
    opened.wait("!element('error').hidden")
    bytes_ = f"Uint8Array.from(atob('{data}'), one => one.charCodeAt(0))"
    opened.run(script % (f"transfer.items.add(new File([{bytes_}], 'a.jpg', {{type: 'image/jpeg'}}))", way))
    opened.wait(RESULT)
    assert opened.run("element('error').hidden")


def test_what_is_no_picture_says_so(opened, tmp_path):
    """In words; too large is told without sending it."""
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff nonsense")
    opened.choose("#file", tmp_path / "broken.jpg")
    opened.wait("!element('error').hidden")
    assert shown(opened, "error") == "This picture cannot be scored: broken or truncated."
    with open(tmp_path / "large.jpg", "wb") as file:
        file.truncate(11_000_000)
    before = len(opened.requests())
    opened.choose("#file", tmp_path / "large.jpg")
    opened.wait("element('error').innerText.includes('10 MB')")
    assert len(opened.requests()) == before


def test_a_picture_that_the_browser_cannot_show_comes_from_the_server(opened, tmp_path, photo):
    """A TIFF: scored, and shown as a small copy."""
    cv2.imwrite(str(tmp_path / "scan.tiff"), image.read(photo))
    opened.choose("#file", tmp_path / "scan.tiff")
    opened.wait(f"{RESULT} && {EXPLAINED} && !element('photo').hidden")
    assert opened.run("element('picture').src").startswith("data:image/jpeg")


def test_the_keyboard_reaches_everything(opened):
    """In the order of the page, and each is seen to have the focus."""
    order = []
    for _ in range(5):
        key(opened, "Tab", 9)
        order.append(focused(opened))
        seen = "document.activeElement.id === 'file' ? element('file').nextElementSibling : document.activeElement"
        assert opened.run(f"getComputedStyle({seen}).outlineStyle") == "solid", order
    assert order[:4] == ["file", "open-camera", "address", "Score"]


def test_the_camera_takes_a_picture(explaining):
    """Chromium's own test picture as the camera; Esc closes it, and the camera is let go."""
    with Browser(1280, 800, "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream") as window:
        window.open(explaining.address)
        window.wait("document.body.dataset.ready")
        for end in ("Escape", "shoot"):
            window.run("element('open-camera').click()")
            window.wait("element('camera').open && video.videoWidth")
            window.run("window.track = video.srcObject.getTracks()[0]")
            assert focused(window) == "shoot"
            key(window, "Escape", 27) if end == "Escape" else window.run("element('shoot').click()")
            window.wait("!element('camera').open && track.readyState === 'ended'")
        window.wait(RESULT)


def test_it_fits_a_phone_in_both_lights(browser, explaining, photo):
    """At 390 x 844 nothing is wider than the screen, buttons are large enough for a thumb, text has contrast."""
    browser.call("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=2, mobile=True)
    try:
        for light in ("light", "dark"):
            browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": light}])
            browser.open("about:blank")
            browser.open(explaining.address)
            browser.wait("document.body.dataset.ready")
            assert width_of_everything(browser) <= 390
            heights = browser.run("[...document.querySelectorAll('.button, button')].map(one => one.offsetHeight)")
            assert min(filter(None, heights)) >= 44
            browser.choose("#file", photo)
            browser.wait(f"{RESULT} && {EXPLAINED}")
            assert width_of_everything(browser) <= 390
            for name in ("sentence", "why-note", "caption", "number"):
                assert contrast(browser, name) >= 4.5, (light, name)
    finally:
        browser.call("Emulation.clearDeviceMetricsOverride")
        browser.call("Emulation.setEmulatedMedia", features=[])


def contrast(browser: Browser, name: str) -> float:
    """Contrast of an element's text with the page (WCAG 2)."""
    colours = browser.run(
        f"[getComputedStyle(element('{name}')).color, getComputedStyle(document.body).backgroundColor]"
        ".map(one => one.match(/\\d+/g).slice(0, 3).map(Number))"
    )
    linear = [
        np.where((c := np.array(one) / 255) <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) for one in colours
    ]
    low, high = sorted(float(one @ [0.2126, 0.7152, 0.0722]) for one in linear)
    return (high + 0.05) / (low + 0.05)


def test_a_picture_that_the_net_does_not_know_is_told(heads_run, tiny_lmdb, skimage_data, browser):
    """With the number and the interval, in the answer and on the page; of a picture that it knows only the interval."""
    known = tiny_lmdb.parent / "images"
    scored = score.score(heads_run, [str(file) for file in sorted(known.glob("test*"))])
    files = [skimage_data / "text.png", next(Path(one.path) for one in scored if not one.unknown)]
    with serving(heads_run.folder, "--per-minute", 0, "--no-explain") as server:
        for file, told in zip(files, (True, False)):
            with open(file, "rb") as data:
                answer = requests.post(server.address + "score", files={"picture": data}).json()
            assert (answer["unlike"] >= 95) == told and answer["low"] <= answer["score"] <= answer["high"]
            browser.open("about:blank")
            browser.open(server.address)
            browser.wait("document.body.dataset.ready")
            browser.choose("#file", file)
            browser.wait(RESULT)
            assert browser.run("element('unknown').hidden") != told
            words = shown(browser, "unknown").replace("\xa0", " ")
            assert (f"{round(answer['unlike'])} % of its training selfies" in words) == told
            between = f"Interval of the score: {100 * answer['low']:.0f} % to {100 * answer['high']:.0f} %."
            assert shown(browser, "interval") == between
