"""The report in a real browser; skipped without Chromium unless WSSS_REQUIRE_BROWSER=1."""

import dataclasses
import io
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.report.sample import (
    HOSTILE_ID,
    NAMES,
    PSEUDO,
    THRESHOLDS,
    make_label_map_report,
    make_report,
    make_stages_report,
)
from wsss_jax.data.images import voc_palette
from wsss_jax.report import write_report
from wsss_jax.report.gallery import score_maps

try:
    from selenium import webdriver
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import Select, WebDriverWait
except ImportError:
    webdriver = None

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]


def programs():
    """Paths of Chromium and of its driver, or a reason why there are none."""
    if webdriver is None:
        return None, "selenium is not installed"
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not browser or not driver:
        return None, "no chromium or no chromedriver on the path"
    return (browser, driver), ""


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    paths, reason = programs()
    if paths is None:
        if os.environ.get("WSSS_REQUIRE_BROWSER") == "1":
            pytest.fail(f"WSSS_REQUIRE_BROWSER=1, but {reason}")
        pytest.skip(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = paths[0]
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(paths[1]))
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def report():
    return make_report()


@pytest.fixture
def page(driver, report, tmp_path):
    """The sample report, opened from its file at laptop size in the light scheme."""
    show(driver, tmp_path, report)
    yield driver
    assert driver.get_log("browser") == []


def show(driver, folder, report, width=1280, height=900, scheme="light"):
    """Opens a report and waits until its label maps are drawn."""
    write_report(folder / "index.html", report)
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    driver.get((folder / "index.html").as_uri())
    wait_for(
        driver, "!document.getElementById('threshold') || document.documentElement.dataset.ready === 'true'"
    )


def wait_for(driver, condition):
    WebDriverWait(driver, 20).until(lambda d: d.execute_script(f"return {condition}"))


def press(driver, *keys):
    """Presses keys on the slider and waits for the drawing that follows."""
    driver.find_element("id", "threshold").send_keys(*keys)
    driver.execute_async_script(
        "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done));"
    )


def canvas_pixels(driver, card, result):
    """RGB pixels uint8[h, w, 3] of a label map."""
    width, height, pixels = driver.execute_script(
        """
        const card = [...document.querySelectorAll(".card")].find((c) => c.dataset.id === arguments[0]);
        const canvas = card.querySelectorAll("canvas.map")[arguments[1]];
        const { width, height } = canvas;
        return [width, height, [...canvas.getContext("2d").getImageData(0, 0, width, height).data]];
        """,
        card,
        result,
    )
    return np.array(pixels, np.uint8).reshape(height, width, 4)[..., :3]


def threshold(driver):
    return float(driver.find_element("id", "threshold-value").text)


def test_slider_redraws_every_label_map_exactly(page, report):
    seen = set()
    for keys in ([], [Keys.ARROW_RIGHT] * 5, [Keys.END], [Keys.HOME], [Keys.ARROW_RIGHT] * 9):
        press(page, *keys)
        now = threshold(page)
        seen.add(now)
        for item in report.gallery:
            for index, name in enumerate(NAMES):
                labels = score_maps(item.cams[name].maps, item.image.shape[:2]).at(now)
                np.testing.assert_array_equal(
                    canvas_pixels(page, item.image_id, index), voc_palette()[labels]
                )
    assert seen == {0.15, 0.4, 0.9, 0.0, 0.45}


def test_slider_moves_the_markers_and_the_read_outs(page, report):
    press(page, Keys.HOME, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert threshold(page) == THRESHOLDS[2]
    assert page.find_element("id", "threshold").get_attribute("aria-valuetext") == "0.1"
    outputs = [element.text for element in page.find_elements("css selector", ".readouts output")]
    assert outputs == [f"{result.metrics['miou_curve'][2]:.2f}" for result in report.results]
    svg = page.find_element("css selector", ".chart.sweep.wide")
    frame = {
        key: float(svg.get_attribute(f"data-{key}")) for key in ("y0", "y1", "bottom", "top", "left", "right")
    }
    for index, dot in enumerate(svg.find_elements("css selector", ".dot")):
        x, y = (float(v) for v in dot.get_attribute("transform")[len("translate(") : -1].split(" "))
        share = (report.results[index].metrics["miou_curve"][2] - frame["y0"]) / (frame["y1"] - frame["y0"])
        assert y == pytest.approx(frame["bottom"] + share * (frame["top"] - frame["bottom"]), abs=0.1)
        assert x == pytest.approx(frame["left"] + (0.1 / 0.9) * (frame["right"] - frame["left"]), abs=0.1)
        assert dot.value_of_css_property("visibility") == "visible"


def test_a_click_on_the_curve_sets_the_threshold(page):
    page.execute_script("document.querySelector('.chart.sweep.wide').scrollIntoView()")
    x, y = page.execute_script(
        """
        const svg = document.querySelector(".chart.sweep.wide");
        const box = svg.getBoundingClientRect();
        const [left, right] = [Number(svg.dataset.left), Number(svg.dataset.right)];
        return [box.left + (left + (right - left) * (0.6 / 0.9)) * box.width / 1120, box.top + 50];
        """
    )
    actions = ActionChains(page)
    actions.w3c_actions.pointer_action.move_to_location(int(x), int(y)).click()
    actions.perform()
    wait_for(page, "document.getElementById('threshold-value').textContent === '0.6'")


def test_cards_are_sorted(page):
    def ids():
        cards = page.find_elements("css selector", ".card")
        return [card.get_attribute("data-id") for card in cards]

    def choose(menu, value):
        Select(page.find_element("id", menu)).select_by_value(value)

    def best(measure):
        cards = page.find_elements("css selector", ".card")
        scores = {c.get_attribute("data-id"): c.get_attribute(f"data-{measure}").split() for c in cards}
        return sorted(scores, key=lambda image_id: -float(scores[image_id][0]))

    assert ids() == best("miou")
    choose("order", "worst")
    assert ids() == best("miou")[::-1]
    choose("measure", "foreground")
    assert ids() == best("foreground")[::-1] != best("miou")[::-1]
    choose("order", "best")
    assert ids() == best("foreground")
    choose("order", "id")
    assert ids() == ["a1", HOSTILE_ID, "c3"]


@pytest.mark.parametrize("width", [390, 1280])
def test_pictures_grow_on_a_click_and_on_enter(driver, report, tmp_path, width):
    show(driver, tmp_path, report, width=width)

    def shown():
        return driver.execute_script(
            """
            const dialog = document.getElementById("larger");
            const image = dialog.querySelector("figure > :first-child");
            return [dialog.open, image && image.getBoundingClientRect().width, dialog.textContent];
            """
        )

    def pixels(selector):
        return driver.execute_script(
            "const c = document.querySelector(arguments[0]);"
            "return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]",
            selector,
        )

    card = driver.find_element("css selector", ".card")  # the best one, `c3`
    assert shown()[0] is False
    photo = card.find_element("css selector", "img.photo")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", photo)
    photo.click()
    is_open, larger, text = shown()
    assert is_open and larger > 1.5 * photo.size["width"] and "c3 – input – image" in text
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    driver.find_element("css selector", "#larger button").click()
    assert shown()[0] is False
    labels = card.find_element("css selector", ".groups .stack")
    labels.send_keys(Keys.ENTER)
    assert shown()[0] is True and NAMES[0] in shown()[2]
    assert pixels("#larger canvas") == pixels(".card canvas")
    driver.find_element("css selector", "#larger button").send_keys(Keys.ESCAPE)
    assert shown()[0] is False
    assert driver.get_log("browser") == []


def test_what_the_run_is_made_of_is_folded_on_phones(driver, report, tmp_path):
    for width, is_open in ((390, False), (1280, True)):
        show(driver, tmp_path, report, width=width)
        opened = driver.execute_script("return [...document.querySelectorAll('details')].map((d) => d.open)")
        assert opened == [is_open] * 3
        assert driver.find_element("css selector", "summary").is_displayed() != is_open
    show(driver, tmp_path, report, width=390)
    driver.find_element("css selector", "summary").click()
    assert driver.find_element("css selector", ".summary dd").is_displayed()


def test_label_maps_can_be_drawn_alone(page):
    def opacity():
        return page.execute_script("return getComputedStyle(document.querySelector('canvas.map')).opacity")

    assert opacity() == "0.66"
    page.find_element("id", "blend").click()
    assert opacity() == "1"


def test_hostile_names_run_nothing_and_nothing_is_loaded(page):
    # Names appear as text only: no element inside the places that hold them.
    assert page.find_elements("css selector", "h3.group-name *, figcaption *, option *") == []
    assert len(page.find_elements("tag name", "script")) == 2
    loaded = page.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert [name for name in loaded if not name.startswith("data:")] == []


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_its_window_in_both_schemes(driver, report, tmp_path, width, scheme):
    show(driver, tmp_path, report, width=width, scheme=scheme)
    # Not window.innerWidth: a phone zooms out until an overflowing page fits.
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    shot = np.asarray(Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")).astype(int)
    assert shot.shape[1] == width
    assert len(np.unique(shot.reshape(-1, 3), axis=0)) > 50  # not blank: text, cards and colours
    corner = shot[2, 2].mean()
    assert corner > 230 if scheme == "light" else corner < 40
    assert driver.get_log("browser") == []


@pytest.mark.parametrize("width", [390, 1280])
def test_many_stages_fit_the_window(driver, tmp_path, width):
    show(driver, tmp_path, make_stages_report(), width=width)
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    # The table needs no scrolling either, as long as its names are of usual length.
    assert driver.execute_script(
        "const t = document.querySelector('.table'); return t.scrollWidth <= t.clientWidth"
    )
    Select(driver.find_element("id", "order-by")).select_by_visible_text(PSEUDO)
    assert driver.get_log("browser") == []


def test_cards_of_label_maps_alone_are_sorted(driver, tmp_path):
    label_maps = make_label_map_report()
    items = [
        dataclasses.replace(item, cams={}, labels={"seg": np.full_like(item.mask, label)})
        for item, label in zip(make_report().gallery, (0, 3, 1), strict=True)
    ]
    show(driver, tmp_path, dataclasses.replace(label_maps, gallery=items))
    cards = driver.find_elements("css selector", ".card")
    scores = [float(card.get_attribute("data-miou")) for card in cards]
    assert scores == sorted(scores, reverse=True) and len(set(scores)) == 3
    assert len(driver.find_elements("css selector", ".stack .under")) == 2 * len(cards)
    assert driver.get_log("browser") == []


def test_long_names_do_not_widen_the_page(driver, report, tmp_path):
    long = "n" * 120
    result = dataclasses.replace(report.results[0], name=long)
    item = dataclasses.replace(
        report.gallery[0], image_id=long, cams={long: report.gallery[0].cams[NAMES[0]]}
    )
    changes = {"title": long, "summary": {long: long}, "gallery_note": long}
    show(driver, tmp_path, make_report(results=[result], gallery=[item], **changes), width=390)
    assert driver.execute_script("return document.documentElement.scrollWidth") <= 390


def test_label_maps_alone_run_without_slider(driver, tmp_path):
    show(driver, tmp_path, make_label_map_report())
    assert driver.find_element("css selector", ".big").text.startswith("100.00")
    assert driver.get_log("browser") == []
