"""The page in a real browser: headless Chromium, driven by Selenium; skipped where either is absent."""

from __future__ import annotations

import json
import shutil

import pytest

from fairsynth.report import write_html

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
DRAW = """
const done = arguments[0];
fairsynthReport.drawAll().then(() => {
  const wait = () => fairsynthReport.plots.every((p) => ["drawn", "failed"].includes(p.dataset.state))
    ? done(fairsynthReport.plots.map((p) => p.dataset.state)) : setTimeout(wait, 50);
  wait();
}, (error) => done(String(error)));
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    selenium = pytest.importorskip("selenium", reason="Selenium is not installed: pip install selenium")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no Chromium with its driver here: apt-get install chromium chromium-driver")
    assert selenium
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    session = webdriver.Chrome(options=options, service=Service(driver))
    session.set_script_timeout(60)
    yield session
    session.quit()


@pytest.fixture(scope="module")
def address(single, tmp_path_factory):
    return write_html(single, tmp_path_factory.mktemp("page") / "report.html").as_uri()


@pytest.fixture(scope="module")
def address_of_many(compared, tmp_path_factory):
    return write_html(compared, tmp_path_factory.mktemp("page") / "many.html", projections=("pca",)).as_uri()


def visit(browser, address, width, height=800, *, dark=False):
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get("about:blank")
    browser.get_log("browser"), browser.get_log("performance")
    browser.get(address)


def requests(browser):
    """Return the addresses asked for since the visit, but for those that never leave the page."""
    messages = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return [url for url in asked if not url.startswith(("data:", "blob:"))]


def nothing_scrolls_sideways(browser):
    assert browser.execute_script("return document.documentElement.scrollWidth") == 400
    wide = browser.execute_script(
        "return [...document.querySelectorAll('main *')].filter((e) => !e.closest('.scroll, pre, .plot') "
        "&& e.getClientRects().length && e.getBoundingClientRect().right > 401)"
        ".map((e) => e.outerHTML.slice(0, 80))"
    )
    assert wide == []


# On a phone a comparison has to do all that one table has to, below.
@pytest.mark.parametrize("width", [pytest.param(400, marks=pytest.mark.slow), 1280])
def test_all_opens_and_nothing_is_asked_of_the_network(browser, address, width):
    visit(browser, address, width)
    browser.execute_script("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    states = browser.execute_async_script(DRAW)
    assert len(states) > 20
    assert set(states) == {"drawn"}
    drawn = browser.execute_script(
        "return fairsynthReport.plots.map((p) => p.querySelectorAll('svg.main-svg').length > 0 "
        "&& p.getBoundingClientRect().height > 60)"
    )
    assert all(drawn)
    assert [e for e in browser.get_log("browser") if e["level"] in ("SEVERE", "WARNING")] == []
    assert requests(browser) == [address]
    if width == 400:
        nothing_scrolls_sideways(browser)


def test_many_tables_do_not_scroll_sideways_on_a_phone(browser, address_of_many):
    visit(browser, address_of_many, 400)
    browser.execute_script("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert set(browser.execute_async_script(DRAW)) == {"drawn"}
    nothing_scrolls_sideways(browser)


def test_words_are_there_before_the_pictures(browser, address):
    visit(browser, address, 1280)
    assert "Not fit for release" in browser.find_element("id", "verdict").text
    assert browser.execute_script("return fairsynthReport.plots.some((p) => !p.dataset.state)")


def test_pictures_are_drawn_when_they_come_into_view(browser, address):
    visit(browser, address, 1280)
    browser.execute_script("document.querySelector('#private .plot').scrollIntoView()")
    state = browser.execute_async_script(
        "const done = arguments[0]; const p = document.querySelector('#private .plot');"
        "const wait = () => p.dataset.state === 'drawn' ? done('drawn') : setTimeout(wait, 50); wait();"
    )
    assert state == "drawn"


def test_every_section_is_reached_from_the_bar(browser, address):
    visit(browser, address, 400)
    links = browser.execute_script("return [...document.querySelectorAll('nav a')].map((a) => a.hash)")
    assert len(links) == 11
    for place in links:
        browser.execute_script("document.querySelector(`nav a[href='${arguments[0]}']`).click()", place)
        top = browser.execute_script(
            "return document.querySelector(arguments[0]).getBoundingClientRect().top", place
        )
        end = browser.execute_script(
            "return innerHeight + scrollY >= document.documentElement.scrollHeight - 2"
        )
        assert end or abs(top) < 120, place


@pytest.mark.parametrize("dark", [False, True])
def test_words_stand_out_from_their_ground(browser, address, dark):
    visit(browser, address, 1280, dark=dark)
    ratios = browser.execute_script(
        """
        const light = (c) => { const [r, g, b] = c.match(/[\\d.]+/g).map(Number)
          .map((v) => v / 255).map((v) => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
          return .2126 * r + .7152 * g + .0722 * b; };
        const ground = (e) => { for (; e; e = e.parentElement) {
          const c = getComputedStyle(e).backgroundColor; if (!/, 0\\)$/.test(c)) return c; }
          return 'rgb(255,255,255)'; };
        const kinds = 'p, h1, h2, h3, li, td, th, dd, dt, .badge, .meaning, .detail, a';
        return [...document.querySelectorAll(kinds)]
          .filter((e) => e.getClientRects().length).map((e) => {
            const a = light(getComputedStyle(e).color), b = light(ground(e));
            return [(Math.max(a, b) + .05) / (Math.min(a, b) + .05), e.outerHTML.slice(0, 60)]; });
        """
    )
    assert len(ratios) > 100
    assert min(ratios)[0] >= 4.5, min(ratios)


def test_one_button_opens_and_closes_all_folded_parts(browser, address):
    visit(browser, address, 1280)
    total = browser.execute_script("return document.querySelectorAll('details').length")
    button = browser.find_element("id", "open-all")
    assert total > 5 and button.is_displayed()
    for wanted in (total, 0):
        button.click()
        assert browser.execute_script("return document.querySelectorAll('details[open]').length") == wanted


def test_paper_holds_pictures(browser, address):
    visit(browser, address, 1280)
    browser.execute_async_script(DRAW)
    pdf = browser.execute_cdp_cmd("Page.printToPDF", {})["data"]
    assert len(pdf) > 200_000
    assert browser.execute_script("return document.querySelectorAll('details[open]').length") == 0
