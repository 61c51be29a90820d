"""Pages that people read: whatever a policy wrote stays text, and they fit a telephone."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure
from needs import needs_chromium

from pivotrl.page import LONGEST, Example, Said, Section, as_html, as_markdown, svg

HOSTILE = (
    "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    "</pre></div>{{ 7 * 7 }} {% raw %} &lt; \x1b[31m red" + "x" * 3_000
)


def page() -> list[Section]:
    figure = Figure(figsize=(9, 3))
    figure.subplots().plot([1, 2, 3])
    said = Said(who=HOSTILE, text=HOSTILE, verdict=HOSTILE, accepted=False, times=3)
    example = Example(
        title=HOSTILE, before=[said], last=[said], demonstration=said, actions=[said] * 4
    )
    wide = [f"column {number}" for number in range(30)]
    return [
        Section(title="Table", note=HOSTILE, columns=wide, rows=[["<b>cell</b>"] * 30]),
        Section(title="Figure", note="", figure=svg(figure)),
        Section(title="Examples", note="", examples=[example]),
    ]


def test_what_others_wrote_is_never_markup() -> None:
    text = as_html("<title>", page())
    for tag in ("<script", "<img", "<b>cell", "</pre></div>{{"):
        assert tag not in text
    assert "{{ 7 * 7 }} {% raw %} &amp;lt;" in text
    assert "&lt;b&gt;cell&lt;/b&gt;" in text
    assert f"… {len(HOSTILE) - LONGEST:,} more characters" in text
    assert text == as_html("<title>", page())


def test_tables_are_markdown_too() -> None:
    text = as_markdown(
        "Title", [Section(title="T", note="n", columns=("a", "b"), rows=[["1", "2"]])]
    )
    assert text == "# Title\n\n## T\n\nn\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser_it_fits_and_runs_nothing(width: int, tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright
    from screenshots import CHROMIUM, FLAGS

    path = tmp_path / "page.html"
    path.write_text(as_html("a page", page()), encoding="utf-8")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        shown = chromium.new_page(viewport={"width": width, "height": 800})
        asked: list[str] = []
        shown.on("request", lambda request: asked.append(request.url))
        shown.goto(path.as_uri())
        assert shown.title() == "a page"
        assert asked == [path.as_uri()]
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        assert shown.locator("article").count() == 1
        assert shown.locator("article details .said").first.is_hidden()
        shown.get_by_text("1 messages before").click()
        assert shown.locator("article details .said").first.is_visible()
        actions = shown.locator("article .actions .said")
        boxes = [actions.nth(number).bounding_box() for number in range(3)]
        rows, columns = ({box[side] for box in boxes if box} for side in ("y", "x"))
        beside = width > 1000  # side by side where there is room, else below each other
        assert (len(rows), len(columns)) == ((1, 3) if beside else (3, 1))
        assert all(actions.nth(number).locator("b").is_visible() for number in range(4))
        chromium.close()
