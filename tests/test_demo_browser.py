"""The demo as a user sees it: in a Chromium that is installed, by keyboard, and at phone width."""

import time
from contextlib import suppress

import numpy as np
import pytest
from chromium import needs_chromium, sync_api, windows
from media import tiny_predictor, write_video
from PIL import Image
from skimage.data import astronaut

from aunet.demo.serving import serving
from aunet.predict import Options
from aunet.progress import progress

pytestmark = needs_chromium

ABOUT = {"title": "ours", "note": "It has seen rendered faces only."}
AT = "document.activeElement.id || document.activeElement.textContent"


@pytest.fixture
def predictor(tmp_path, compose):
    return tiny_predictor(tmp_path / "run", compose)


@pytest.fixture
def server(predictor):
    with serving(predictor, Options(min_face=60), ABOUT, 0, 2_000_000) as running:
        yield running


@pytest.fixture
def photograph(tmp_path):
    Image.fromarray(astronaut()).save(tmp_path / "astronaut.png")
    return tmp_path / "astronaut.png"


@pytest.fixture
def film(tmp_path):
    small = Image.fromarray(astronaut()).crop((100, 0, 356, 256))
    frames = [np.asarray(small.rotate(angle)) for angle in range(5)]
    return write_video(tmp_path / "film.mp4", frames, codec="libx264")


@pytest.fixture
def opened(browser, server):
    """Opens the page in a window of some size; nothing may be asked of others."""
    with windows(browser, server.url, 800) as (open_page, asked):
        yield open_page
    assert [url for url in asked if not url.startswith((server.url, "data:"))] == []


def until(page, expression):
    """Waits; not by wait_for_function, which the page's content policy keeps from evaluating."""
    deadline = time.monotonic() + 30
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"not within 30 s: {expression}"
        time.sleep(0.05)


def choose(page, file):
    page.set_input_files("#file", file)
    page.wait_for_selector("#result:visible, #error p")


def chooser(page, key):
    """The browser's, opened by a key; Chromium passes over one now and then where the machine is loaded."""
    page.on("filechooser", lambda _: None)  # early: nothing tells when the browser begins to heed this
    for _ in range(3):
        with suppress(sync_api.TimeoutError), page.expect_file_chooser(timeout=10_000) as opened:
            page.keyboard.press(key)
            return opened.value
    pytest.fail(f"{key} opens nothing")


def test_a_photograph_by_keyboard_alone(opened, photograph, server):
    page = opened()
    page.keyboard.press("Tab")
    assert page.evaluate(AT) == "file"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    chooser(page, "Space").set_files(photograph)
    page.wait_for_selector("#result:visible")
    assert page.evaluate(AT) == "found"  # where one reads on
    assert page.locator("#found").inner_text() == "astronaut.png"
    assert page.locator("#summary").inner_text() == "1 face in the picture."
    assert page.locator("tbody tr").count() == 12
    assert page.locator("tr.present").count() == page.get_by_text("present", exact=True).count()
    until(page, "[...document.images].every(image => image.naturalWidth > 500 && image.alt)")
    reached = []
    for _ in range(3):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(AT))
    assert reached == ["Save overlay.png", "Save table.csv", "delete"]
    (job,) = server.jobs._jobs.values()
    assert not job.upload.exists()
    page.keyboard.press("Enter")
    page.wait_for_selector("#result", state="hidden")
    until(page, "document.getElementById('status').textContent === 'deleted'")
    assert page.evaluate(AT) == "file"
    assert not job.folder.exists()


@pytest.mark.parametrize("width", [320, 360, 1280])
def test_a_video_fits_the_page(width, opened, film):
    page = opened(width)
    choose(page, film)
    assert page.locator("#error").inner_text() == ""
    until(page, "document.querySelector('video').readyState > 0")
    assert page.evaluate("document.querySelector('video').duration") > 0.1
    assert page.evaluate("document.querySelector('video').error") is None
    until(page, "[...document.images].every(image => image.naturalWidth > 0 && image.alt)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    outside = page.evaluate(
        """[...document.querySelectorAll("body *")].filter(part => !part.closest(".scroll"))
        .filter(part => part.getBoundingClientRect().right > innerWidth + 1).map(part => part.outerHTML)"""
    )
    assert outside == []
    wide = page.evaluate(
        """[...document.querySelectorAll("table")].map(table => table.getBoundingClientRect().right
        - document.querySelector("main").getBoundingClientRect().right).filter(more => more > 0.5)"""
    )
    assert wide == []
    small = page.evaluate(
        """[...document.querySelectorAll("button, input, #files a")].filter(part => part.offsetHeight)
        .filter(part => part.offsetHeight < 36).map(part => part.outerHTML)"""
    )
    assert small == []


def test_a_dropped_file_is_taken(opened, photograph):
    page = opened()
    data = page.evaluate_handle(
        """async bytes => { const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], "dropped.png")); return data; }""",
        list(photograph.read_bytes()),
    )
    for name in ("dragenter", "dragover", "drop"):
        page.dispatch_event("h1", name, {"dataTransfer": data})  # beside the box
    page.wait_for_selector("#result:visible")
    assert page.locator("#found").inner_text() == "dropped.png"


def test_bad_files_are_told_and_the_page_goes_on(opened, tmp_path, photograph):
    page = opened()
    bad, large = tmp_path / "<img src=x>.png", tmp_path / "large.mp4"
    bad.write_bytes(b"no picture")
    large.write_bytes(bytes(2_000_001))
    for file, message in ((bad, "no picture, and no video that can be read"), (large, "larger than 2 MB")):
        choose(page, file)
        (said,) = page.locator("#error p").all_inner_texts()
        assert said.startswith(f"{file.name}: ")
        assert message in said
        assert page.locator("#work").is_hidden()
    choose(page, photograph)
    assert page.locator("#error").inner_text() == ""
    assert page.locator("#result").is_visible()


def test_long_work_is_shown_and_can_be_cancelled_by_keyboard(
    opened, predictor, photograph, server, monkeypatch
):
    def write(out, inputs, options, draw):
        with progress("predicting", 1000, "kB") as advance:
            advance(420)
            while True:
                advance(0)
                time.sleep(0.01)

    monkeypatch.setattr(predictor, "write", write)
    page = opened(360)
    page.set_input_files("#file", photograph)
    until(page, "document.getElementById('status').textContent === 'predicting, 40%'")
    assert page.evaluate("document.getElementById('progress').value") == pytest.approx(0.42)
    assert page.evaluate(AT) == "cancel"
    page.keyboard.press("Enter")
    until(page, "document.getElementById('status').textContent === 'cancelled'")
    assert page.evaluate(AT) == "file"
    assert server.jobs._jobs == {}


def test_a_demo_that_has_ended_is_told(opened, photograph):
    page = opened()
    page.evaluate("() => { XMLHttpRequest.prototype.send = function () { this.onerror(); }; }")
    choose(page, photograph)
    assert page.locator("#error").inner_text() == "The demo does not answer any more. Is it still running?"
