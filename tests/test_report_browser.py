"""The report of a real sweep, opened in a browser: in a Chromium that is installed."""

import hydra
import pytest
from chromium import needs_chromium, windows

from aunet.config import CONF
from aunet.report import write_report
from aunet.results import read_table
from aunet.train import train

pytestmark = [needs_chromium, pytest.mark.filterwarnings("ignore")]

TABLE, AUS = (
    "table:has(caption:text-is('Result'))",
    "table:has(caption:text-is('F1 of each AU, in per cent'))",
)


@pytest.fixture(scope="module")
def sweep(affwild2, tmp_path_factory):
    """Two rows, trained for two epochs on the tiny data; one of them attends."""
    runs = tmp_path_factory.mktemp("runs")
    rows = [("ours", 0), ("ours", 1), ("without_attention", 0)]
    for row, seed in rows:
        overrides = [
            *(
                f"experiment=table1/{row}",
                f"seed={seed}",
                "data=affwild2",
                f"data.root={affwild2}",
                f"runs={runs}",
            ),
            *(
                "weights=none",
                "logger=none",
                "progress=false",
                "host.threads=1",
                "host.keep_large_blocks=false",
            ),
            *("batch_size=4", "bn_momentum=0.1", "epochs=2", "backbone.filters=[8,8,8,8,8,8]"),
        ]
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            train(hydra.compose("config", overrides))
    return runs / "table1"


@pytest.fixture(scope="module")
def file(sweep, tmp_path_factory):
    """Its report; elsewhere, since nothing is written into a sweep."""
    out = tmp_path_factory.mktemp("report") / "report.html"
    assert write_report([sweep], out, faces=True).remarks == []
    return out


@pytest.fixture
def opened(browser, file):
    """Opens the page in a window of some size; nothing may be asked for."""
    with windows(browser, file.as_uri(), 900) as (open_page, asked):
        yield open_page
    assert {url for url in asked if not url.startswith("data:")} == {file.as_uri()}


def column(page, table, name):
    """Text of a table's column, as it stands."""
    heads = [head.removesuffix(" ↕").strip() for head in page.locator(f"{table} thead th").all_inner_texts()]
    place = next(i for i, head in enumerate(heads) if head.rstrip("↑↓ ") == name)
    return page.locator(f"{table} tbody tr > :nth-child({place + 1})").all_inner_texts()


def test_every_picture_loads_and_has_words(opened):
    page = opened()
    pictures = page.evaluate("[...document.images].map(image => [image.naturalWidth, image.alt])")
    assert len(pictures) > 12 * 4
    assert {width for width, _ in pictures} == {2 * 112}  # the frame, and beside it what was attended to
    assert all(alt.startswith("AU") for _, alt in pictures)
    drawn = page.locator("svg").evaluate_all(
        "all => all.map(one => [one.role, one.ariaLabel, one.clientWidth])"
    )
    assert len(drawn) > 36
    assert all(role == "img" and said and width > 30 for role, said, width in drawn if width)


def test_table_sorts_by_keyboard(opened, sweep):
    page = opened()
    figures = [f"{row.f1.value:.4f}" for row in read_table(sweep).rows]
    button = page.locator(f"{TABLE} thead button", has_text="F1")
    button.focus()
    for key, direction, expected in (
        ("Enter", "ascending", sorted(figures, key=float)),
        ("Space", "descending", sorted(figures, key=float, reverse=True)),
        ("Enter", "ascending", sorted(figures, key=float)),
    ):
        page.keyboard.press(key)
        assert column(page, TABLE, "F1") == expected
        assert (
            page.locator(f"{TABLE} [aria-sort]:not([aria-sort=none])").get_attribute("aria-sort") == direction
        )
    by_title = page.locator(f"{TABLE} thead button").first
    by_title.press("Enter")
    titles = column(page, TABLE, "row")
    assert titles == sorted(titles)
    assert page.locator(f"{TABLE} [aria-sort=ascending]").inner_text().startswith("row")


def test_missing_figures_come_last_either_way(opened):
    page = opened()
    page.locator(f"{TABLE} thead button", has_text="difference").press("Enter")
    ascending = column(page, TABLE, "difference")
    page.keyboard.press("Enter")
    assert ascending[-1] == column(page, TABLE, "difference")[-1] == "–"


def test_page_is_filtered_by_row_and_by_au(opened):
    page = opened()
    learning = page.locator("#learning figure")
    assert (len(column(page, TABLE, "row")), learning.count()) == (2, 2)
    page.get_by_label("Rows whose title or name has").fill("without att")
    rows = page.locator(f"{TABLE} tbody tr:visible")
    assert rows.count() == 1
    assert "without attention" in rows.inner_text()
    assert page.locator("#learning figure:visible").count() == 1
    assert "1 of 2 rows" in page.get_by_role("status").inner_text()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.press("Delete")
    assert rows.count() == 2
    assert page.get_by_role("status").inner_text() == ""
    page.get_by_label("AU12", exact=True).press("Space")
    assert page.locator("[data-au=AU12]:visible").count() == 0
    heads = page.locator(f"{AUS} thead th:visible").all_inner_texts()
    assert [head.split()[0] for head in heads] == [
        "row",
        *(f"AU{au}" for au in (1, 2, 4, 6, 7, 10, 15, 23, 24, 25, 26)),
    ]
    page.get_by_role("button", name="none").press("Enter")
    assert page.locator("[data-au]:visible").count() == 0
    page.get_by_role("button", name="all").press("Enter")
    assert page.locator(f"{AUS} thead th:visible").count() == 13


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_page_does_not_scroll_sideways(width, opened):
    page = opened(width)
    for details in page.locator("summary").all():
        details.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    outside = page.evaluate(
        """[...document.querySelectorAll("body *")].filter(part => !part.closest(".scroll, pre, svg, .skip"))
        .filter(part => part.getBoundingClientRect().right > innerWidth + 1).map(part => part.outerHTML)"""
    )
    assert outside == []


def test_keyboard_reaches_everything_and_shows_where_it_is(opened):
    page = opened()
    page.keyboard.press("Tab")
    skip = page.get_by_text("Skip to the result")
    box = skip.bounding_box()
    assert box["x"] >= 0
    page.keyboard.press("Enter")
    assert page.url.endswith("#result")
    seen = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        tag, style, outline = page.evaluate(
            """(() => { const at = document.activeElement, style = getComputedStyle(at);
            return [at.tagName, style.outlineStyle, parseFloat(style.outlineWidth)]; })()"""
        )
        assert (style, outline >= 2) == ("solid", True), tag
        seen.add(tag)
    assert {"INPUT", "BUTTON", "DIV"} <= seen  # filters, heads of columns, and regions that scroll
    assert page.evaluate("[...document.querySelectorAll('.scroll, pre')].every(part => part.tabIndex === 0)")


def test_without_scripts_all_is_there_but_the_filter(opened):
    page = opened(java_script_enabled=False)
    assert not page.locator("#filter").is_visible()
    assert page.locator(f"{TABLE} tbody tr").count() == 2
    assert page.locator("#frames img").first.is_visible()


def test_print_unfolds_what_is_folded(opened):
    page = opened()
    assert page.locator("details[open]").count() == 0
    assert page.pdf().startswith(b"%PDF")
    assert page.locator("details:not([open])").count() == 0
