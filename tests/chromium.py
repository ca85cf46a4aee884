"""A Chromium that is installed, for the tests that look at pages as people do."""

import os
import shutil
from contextlib import contextmanager

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = os.environ.get("AUNET_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium: `make test-browser`, or AUNET_CHROMIUM=FILE"
)


@contextmanager
def windows(browser, url, height):
    """What opens the page in windows of some width, and the addresses asked for; nothing may go wrong."""
    contexts, complaints, asked = [], [], []

    def open_page(width=1280, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url)
        return page

    yield open_page, asked
    for context in contexts:
        context.close()
    assert complaints == []
    assert asked
