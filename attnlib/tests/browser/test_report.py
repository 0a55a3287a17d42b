"""The report as its readers have it: opened from a file, sorted, filtered, by keyboard, on a phone, printed."""

import shutil
import time
from dataclasses import replace
from functools import cache

import msgspec
import pytest

import plots
from attnlib.compare.cells import Cells
from attnlib.runs.load import load
from attnlib.show.report.page import write
from attnlib.tests import ROOT

pytestmark = pytest.mark.browser
REFERENCE = sorted((ROOT / "results" / "reference").glob("*.json"))
MANY = 10_000
TIME = 5  # its column, from 1


@cache
def cases():
    """How many the reference runs have."""
    return len(Cells([load(path) for path in REFERENCE]).by_id)


@pytest.fixture(name="chromium", scope="module")
def _chromium():
    sync = pytest.importorskip("playwright.sync_api", reason="no playwright: tox -e browser brings it")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no chromium: apt-get install chromium")
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(name="figures", scope="module")
def _figures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    report = folder / "report.html"
    assert plots.main([*map(str, REFERENCE), "--out", str(folder), "--report", str(report)]) == 0
    return folder


@pytest.fixture(name="reference", scope="module")
def _reference(figures):
    return figures / "report.html"


@pytest.fixture(name="many", scope="module")
def _many(figures):
    """The report of a run that has each timed case of a reference run again and again, with other seeds."""
    run = load(REFERENCE[0])
    timed, checks = [cell for cell in run.cells if not cell.probe], [cell for cell in run.cells if cell.probe]
    cells = [*checks]
    for i in range(MANY - len(checks)):
        cell, seed = timed[i % len(timed)], i // len(timed)
        case, fields = msgspec.structs.replace(cell.case, seed=seed), cell.fields | {"seed": seed}
        cells.append(replace(cell, case=case, fields=fields, case_id=f"{i:012x}"))
    pictures = sorted(figures.glob("*.png"))
    path = figures / "many.html"
    write(path, Cells([replace(run, cells=tuple(cells))]), pictures)
    return path


@pytest.fixture(name="opened")
def _opened(chromium):
    """Open a page; afterwards nothing was asked of a network and no script failed."""
    pages, asked, failed = [], [], []

    def opened(path, width=1280, may_fail=False, **options):
        page = chromium.new_page(viewport={"width": width, "height": 900}, **options)
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: None if may_fail else failed.append(str(error)))
        page.on("console", lambda message: failed.append(message.text) if message.type == "error" else None)
        page.goto(path.as_uri())
        pages.append(page)
        return page

    yield opened
    for page in pages:
        page.close()
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert failed == []


def column(page, place):
    """Return the values of a column in the rows that are shown, as it is sorted."""
    script = "(cells) => cells.map(cell => cell.dataset.v ?? cell.textContent)"
    return page.eval_on_selector_all(f"#table tbody tr > :nth-child({place})", script)


def times(page):
    """Seconds of the rows that are shown, None where there are none."""
    return [float(text) if text else None for text in column(page, TIME)]


def absent_last(found):
    """The numbers of a sorted column, which come before all that is absent."""
    known = [number for number in found if number is not None]
    assert found == [*known, *[None] * (len(found) - len(known))]
    return known


def test_readable_without_a_script(opened, reference):
    """All cases are there, and nothing that would do nothing."""
    page = opened(reference, java_script_enabled=False)

    assert page.locator("#table tbody tr:visible").count() == cases()
    assert not page.locator("#controls").is_visible()
    assert page.locator("#table th button").count() == 0


def test_sorted_by_a_click_and_a_key(opened, reference):
    """Up, then down, what is absent last either way; a screen reader hears which."""
    page = opened(reference)
    head = page.locator(f"#table thead th:nth-child({TIME})")
    head.locator("button").click()
    page.locator("#more").click()
    up = absent_last(times(page))
    assert head.get_attribute("aria-sort") == "ascending"
    assert up == sorted(up)
    assert len(up) > 100

    head.locator("button").focus()
    page.keyboard.press("Enter")
    down = absent_last(times(page))
    assert head.get_attribute("aria-sort") == "descending"
    assert down == sorted(down, reverse=True)
    assert sorted(down) == up


def test_filtered_by_words_and_choices(opened, reference):
    """Every word must be in a row, a choice is exact, and what is shown is counted."""
    page = opened(reference)
    page.fill("#text", "train_step alibi")
    names = column(page, 1)
    assert names
    assert all("train_step" in name and "alibi" in name for name in names)
    assert page.locator("#count").inner_text() == f"{len(names)} of {cases()} cases"

    page.fill("#text", "")
    page.get_by_role("combobox", name="status", exact=True).select_option("unsupported")
    assert set(column(page, 4)) == {"unsupported"}
    page.get_by_role("combobox", name="encoding", exact=True).select_option("none")
    assert all("none" in name.split() for name in column(page, 1))
    page.fill("#text", "no such word")
    assert page.locator("#count").inner_text() == f"0 of {cases()} cases"


def test_used_by_keyboard_alone(opened, reference):
    """A skip link and a few Tabs lead to the filter, the filter takes what is typed, a summary opens."""
    page = opened(reference)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    for _ in range(3):  # the link to the runs, then the filter
        if page.evaluate("document.activeElement.id") != "text":
            page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "text"
    page.keyboard.type("forward rotary")
    assert page.locator("#table tbody tr").count() < 20
    page.locator("#table tbody summary").first.focus()
    page.keyboard.press("Enter")
    shown = page.locator("#table tbody details[open] code").inner_text()
    assert shown.startswith("pytest ")
    assert "test_forward.py::test_forward[" in shown


@pytest.mark.faults  # with the long tests
def test_a_number_leads_to_its_row(opened, many, reference):
    """From the table of costs, and to a row that was not shown."""
    page = opened(reference)
    link = page.locator("#answers ~ * a").first
    link.click()
    row = page.locator(f"[id='{link.get_attribute('href')[1:]}']")
    assert row.is_visible()
    assert "found" in row.get_attribute("class")
    page.fill("#text", "no such word")
    assert page.locator("#table tbody tr").count() == 0
    link.click()
    assert row.is_visible()
    assert page.evaluate("document.activeElement.id") == link.get_attribute("href")[1:]

    page = opened(many)
    page.evaluate(f"location.hash = 'c{9000:012x}'")
    page.wait_for_selector(".found")
    assert page.locator(".found").is_visible()
    assert page.locator("#table tbody tr").count() < 1000


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_fits_a_phone(opened, reference, width):
    """Tables and figures scroll within the page; the page itself does not scroll sideways."""
    page = opened(reference, width=width)

    assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("scheme", [pytest.param("light", marks=pytest.mark.faults), "dark"])
def test_accessible(opened, reference, scheme):
    """An independent judge, axe, finds nothing: headings, tables, names, contrast, keyboard."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = opened(reference, color_scheme=scheme)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 26)"}[scheme]

    found = axe.run(page)
    assert [(v["id"], v["nodes"][0]["html"][:200]) for v in found.response["violations"]] == []


@pytest.mark.faults  # with the long tests
def test_printed_whole(opened, many):
    """On paper there are all rows that the filter leaves, and no controls; afterwards as many as before."""
    page = opened(many)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")

    assert page.locator("#table tbody tr").count() == MANY
    assert not page.locator("#controls").is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("#table tbody tr").count() == 200


def test_a_script_that_fails_hides_nothing(opened, reference, tmp_path):
    """The rows are there all the same."""
    broken = tmp_path / "broken.html"
    broken.write_text(reference.read_text().replace("const FIRST = 200;", "undefined_name();"))
    page = opened(broken, may_fail=True)

    assert page.locator("#table tbody tr:visible").count() == cases()


def test_ten_thousand_cases(opened, many, reference, capsys):
    """Sizes are within what was promised; times are told, since they are the machine's."""
    assert reference.stat().st_size <= 1.5e6
    assert many.stat().st_size <= 6e6
    start = time.perf_counter()
    page = opened(many)
    spent = time.perf_counter() - start
    timed = """async (act) => {
        const start = performance.now();
        eval(act);
        document.body.offsetHeight;  // lay it out
        return performance.now() - start;
    }"""
    acts = {
        "sort": f"document.querySelector('#table thead th:nth-child({TIME}) button').click()",
        "sort back": f"document.querySelector('#table thead th:nth-child({TIME}) button').click()",
        "filter": "const t = document.getElementById('text'); t.value = 'train_step rotary'; "
        "t.dispatchEvent(new Event('input', {bubbles: true}))",
    }
    page.context.set_default_timeout(10_000)
    found = {name: page.evaluate(timed, act) for name, act in acts.items()}
    assert page.locator("#table tbody tr").count() > 0
    assert absent_last(times(page))
    with capsys.disabled():
        words = ", ".join(f"{name} {ms:.0f} ms" for name, ms in found.items())
        print(f"\n{MANY} cases: {many.stat().st_size / 1e6:.2f} MB, opened in {spent:.2f} s, {words}")
