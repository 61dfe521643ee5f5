import base64
import dataclasses
import errno
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from tests.helpers.page import Page
from tests.report.sample import (
    CLASSES,
    HOSTILE_ID,
    NAMES,
    PSEUDO,
    THRESHOLDS,
    make_items,
    make_label_map_report,
    make_report,
    make_stages_report,
)
from wsss_jax.data.class_maps import ClassMaps
from wsss_jax.data.images import voc_palette
from wsss_jax.errors import RunError
from wsss_jax.evaluation import image_label_score
from wsss_jax.report import Figure, GalleryCam, GalleryItem, Series, select_gallery, write_report
from wsss_jax.report.gallery import score_maps, thumbnail_size
from wsss_jax.report.page import render


@pytest.fixture
def report():
    return make_report()


@pytest.fixture
def label_map_report():
    return make_label_map_report()


@pytest.fixture
def page(report):
    return Page(render(report))


def decode(uri):
    kind, content = re.fullmatch(r"data:image/(\w+);base64,(.*)", uri).groups()
    return kind, Image.open(io.BytesIO(base64.b64decode(content)))


def test_every_address_is_embedded(report, page):
    for tag, attrs in page.elements:
        for key in ("src", "href", "srcset", "action", "data", "poster", "xlink:href", "style"):
            value = attrs.get(key)
            assert value is None or value.startswith("data:") or (key == "style" and "url" not in value), (
                tag,
                key,
            )
    text = re.sub(r"data:image/\w+;base64,[A-Za-z0-9+/=]*", "", render(report))
    assert not re.search(r"https?:|//[a-z]|url\(|@import|\bfetch\(|XMLHttpRequest|import\(", text)


def test_policy_allows_only_the_page_s_own_script(page):
    (policy,) = [a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/]+='", policy)
    assert len(page.all("script")) == 2
    assert not any(key.startswith("on") for _, attrs in page.elements for key in attrs)


def test_hostile_names_stay_text(report, page):
    source = render(report)
    for hostile in ("<script>alert", "<img src=x", 'bar" onload', "OC-CSE <b>", "<title>\n", "Versions <i>"):
        assert hostile not in source
    assert any(CLASSES[1] in text for text in page.texts)
    assert HOSTILE_ID in page.texts
    assert {a["data-id"] for a in page.all("article", "card")} == {"a1", HOSTILE_ID, "c3"}


def test_template_signs_in_names_are_kept():
    source = render(make_report(title="$data costs $5 ${x}", gallery_note="</script><!-- part: curve -->"))
    assert "<h1>$data costs $5 ${x}</h1>" in source
    assert "&lt;/script&gt;&lt;!-- part: curve --&gt;" in source


def script_data(page):
    return next(json.loads(text) for text in page.texts if text.startswith("{") and "thresholds" in text)


def test_script_gets_thresholds_curves_and_colours(report, page):
    data = script_data(page)
    assert data["thresholds"] == list(THRESHOLDS)
    assert THRESHOLDS[data["start"]] == 0.15
    for curve, result in zip(data["curves"], report.results, strict=True):
        np.testing.assert_allclose(curve, result.metrics["miou_curve"], atol=5e-5)
    assert data["palette"] == voc_palette().tobytes().hex()


def test_embedded_maps_are_the_quantised_scores(report, page):
    canvases = page.all("canvas", "map")
    assert len(canvases) == 3 * len(NAMES)
    for item, first in zip(report.gallery, range(0, 6, 2), strict=True):
        for name, attrs in zip(NAMES, canvases[first : first + 2], strict=True):
            cam = item.cams[name]
            (best_kind, best), (labels_kind, labels) = (
                decode(attrs["data-best"]),
                decode(attrs["data-labels"]),
            )
            assert best_kind == labels_kind == "png"
            np.testing.assert_array_equal(np.asarray(best), np.round(255 * cam.maps.planes.max(axis=0)))
            expected = (cam.maps.class_ids + 1)[cam.maps.planes.argmax(axis=0)]
            np.testing.assert_array_equal(np.asarray(labels), expected)


def test_embedded_truth_is_a_palette_png(report, page):
    pictures = [decode(a["src"])[1] for a in page.all("img", "map")]
    for item, picture in zip(report.gallery, pictures, strict=True):
        np.testing.assert_array_equal(np.asarray(picture), item.mask)
    photos = page.all("img", "photo")
    assert len(photos) == 3
    assert all(attrs["alt"] for attrs in page.all("img"))


def test_every_score_says_what_it_is(report, page):
    text = " ".join(page.texts)
    for result in report.results:
        fixed, oracle = result.metrics["fixed"], result.metrics["oracle"]
        assert f"{fixed['miou']:.2f}" in page.texts
        assert f"at background score {fixed['threshold']:g}, fixed beforehand" in text
        assert f"at {oracle['threshold']:g} (oracle: the best on this split itself)" in text
    for words in ("eval_cam, method cse", "train of shapes", "0.5, 1", "count as IoU 0", "77ab01c477ab"):
        assert page.texts.count(words) == 2
    widths = [attrs["style"] for attrs in page.all("i") if attrs.get("style", "").startswith("width")]
    expected = [f"width:{r.metrics['fixed']['iou'][c]:.2f}%" for c in range(4) for r in report.results]
    assert widths == expected


def test_controls_have_labels(page):
    labels = {attrs.get("for") for attrs in page.all("label")}
    assert "threshold" in labels
    assert len(page.all("label")) == 5
    assert all(attrs.get("aria-label") for attrs in page.all("svg"))
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_label_maps_alone_have_neither_curve_nor_slider(label_map_report):
    page = Page(render(label_map_report))
    assert not page.all("svg")
    assert not page.all("input")
    assert not page.all("canvas")
    assert "CRF" in page.texts
    assert "alpha 4" in page.texts
    assert "seg (label maps)" in " ".join(page.texts)


def test_gallery_without_curve_keeps_a_slider(label_map_report):
    items = [
        GalleryItem(image_id=item.image_id, image=item.image, mask=None, cams={"seg": item.cams[NAMES[0]]})
        for item in make_items()
    ]
    page = Page(render(make_report(results=label_map_report.results, gallery=items)))
    assert len(page.all("canvas")) == 3
    assert script_data(page)["thresholds"][20] == 0.2
    assert page.texts.count("no ground truth") == 3


def test_figures_follow_in_their_order_with_titles_and_captions():
    wide = np.full((30, 3200, 3), 200, np.uint8)
    small = np.zeros((4, 6, 3), np.uint8)
    sheets = [
        Figure(title="cat <1>", caption='three "kinds"', image=wide),
        Figure(title="dog", caption="", image=small),
    ]
    page = Page(render(make_report(figures=sheets)))
    pictures = page.all("img")[-2:]
    assert [attrs["alt"] for attrs in pictures] == ['cat <1>: three "kinds"', "dog"]
    assert [decode(attrs["src"])[1].size for attrs in pictures] == [(1600, 15), (6, 4)]
    assert "cat <1>" in page.texts
    assert 'three "kinds"' in page.texts
    assert "Pictures" not in Page(render(make_report())).texts
    with pytest.raises(ValueError, match=r"figure 'x' is uint8\[4, 6\], not uint8\[H, W, 3\]"):
        Figure(title="x", caption="", image=small[..., 0])


def test_label_maps_stand_beside_the_cams():
    report = make_stages_report()
    page = Page(render(report))
    pictures = page.all("img", "map")
    assert len(pictures) == 3 * len(report.gallery)
    for item, first in zip(report.gallery, range(0, 9, 3), strict=True):
        for attrs in pictures[first + 1 : first + 3]:
            np.testing.assert_array_equal(np.asarray(decode(attrs["src"])[1]), item.labels[PSEUDO])
    assert pictures[1]["alt"] == f"label map by CRF, alpha 4 of a1: {CLASSES[0]}, {CLASSES[2]}"
    item = report.gallery[0]
    own = image_label_score(item.labels[PSEUDO], item.mask, num_classes=3)
    card = page.all("article", "card")[0]
    assert card["data-miou"].split()[2:] == [f"{own.miou:.6f}"] * 2
    assert card["data-foreground"].split()[2:] == [f"{own.foreground:.6f}"] * 2
    assert page.texts.count(f"mIoU {100 * own.miou:.1f}, foreground {100 * own.foreground:.1f}") == 2
    assert [attrs["value"] for attrs in page.all("option")][5:] == ["0", "1", "2", "3"]


def test_the_gallery_is_sorted_at_first_by_the_result_that_is_asked_for():
    def selected(**changes):
        options = Page(render(make_report(**changes))).all("option")
        return [attrs["value"] for attrs in options if "selected" in attrs]

    assert selected() == []  # the first one then
    assert selected(sorted_by=NAMES[1]) == ["1"]
    with pytest.raises(ValueError, match="sorted by 'other'; the results are"):
        make_report(sorted_by="other")


def test_warnings_stand_above_the_scores():
    page = Page(render(make_report(warnings=["3 of <3> images", "more"])))
    assert len(page.all("p", "warning")) == 2
    places = [page.texts.index(text) for text in ("Scores", "3 of <3> images", "more", "fixed")]
    assert places == sorted(places)
    assert not Page(render(make_report())).all("p", "warning")


def test_what_the_run_is_made_of_is_open_where_no_script_folds_it(page):
    assert len(page.all("details")) == 1 + len(NAMES)
    assert all("open" in attrs for attrs in page.all("details"))
    assert len(page.all("div", "long")) == 1  # the command


def test_every_loss_has_axes_of_its_own():
    losses = [
        Series(name="classifier <i>", x=[1, 2], y=[0.5, 0.1]),
        Series(name="AffinityNet", x=[10, 900], y=[80, 60]),
        Series(name="nothing", x=[1], y=[float("nan")]),
    ]
    page = Page(render(make_report(training=losses)))
    charts = [a for a in page.all("svg") if a["aria-label"].startswith("Training: ")]
    for name, x, y in (("classifier <i>", ("1", "2"), 0.5), ("AffinityNet", ("10", "900"), 80)):
        own = [a for a in charts if a["aria-label"].startswith(f"Training: {name} from {y:g} to ")]
        assert len(own) == 3  # for three widths of a screen
        assert {(a["data-x0"], a["data-x1"]) for a in own} == {x}
        assert all(y <= float(a["data-y1"]) <= 1.4 * y for a in own)
    assert len(charts) == 6 and "nothing" not in page.texts


def test_every_stage_has_a_row_with_what_was_measured():
    report = make_stages_report()
    page = Page(render(report))
    assert len(page.all("tr")) == 1 + len(report.stages)
    assert [attrs["scope"] for attrs in page.all("th")] == ["col"] * 5 + ["row"] * 5
    place = page.texts.index("eval_pseudo, train")
    row = page.texts[place - 1 : place + 7]
    fixed, chosen, oracle = (report.stages[-1].metrics[kind] for kind in ("fixed", "chosen", "oracle"))
    assert row == [
        PSEUDO,
        "eval_pseudo, train",
        f"{fixed['miou']:.2f}",
        f"{chosen['miou']:.2f}",
        "score relative to background 0.5, fixed",
        "score relative to background 0.4, chosen on val",
        f"{oracle['miou']:.2f} at {oracle['threshold']:g}",
        "3",
    ]
    assert "none" in page.texts[page.texts.index("CRF, alpha 24") :][:4]


def test_only_background_scores_share_the_plot():
    report = make_stages_report()
    page = Page(render(report))
    assert [attrs["data-line"] for attrs in page.all("li") if "data-line" in attrs] == ["0", "1"]
    assert script_data(page)["thresholds"] == list(THRESHOLDS)
    assert "at score relative to background 0.5, fixed beforehand" in page.texts


def test_terms_of_the_loss_have_a_plot_each():
    page = Page(render(make_stages_report()))
    assert [text for text in page.texts if text in ("cls", "er <i>")] == ["cls", "er <i>"]
    assert sum("from 1 to 0.5 in 2 values" in attrs["aria-label"] for attrs in page.all("svg")) == 2


def test_label_maps_without_cams_need_no_slider(label_map_report):
    items = [
        dataclasses.replace(item, cams={}, labels={"seg": np.zeros_like(item.mask)}) for item in make_items()
    ]
    page = Page(render(make_report(results=label_map_report.results, gallery=items)))
    assert len(page.all("article", "card")) == 3
    assert not [attrs for attrs in page.all("input") if attrs["id"] == "threshold"]
    assert "slider" not in " ".join(text for text in page.texts if "function" not in text)


def test_report_is_written_whole_and_alone(tmp_path, report):
    path = tmp_path / "report" / "index.html"
    write_report(path, report)
    assert path.read_text("utf-8") == render(report)
    assert [entry.name for entry in path.parent.iterdir()] == ["index.html"]


def test_failed_write_leaves_the_old_report(tmp_path, report, monkeypatch):
    path = tmp_path / "index.html"
    write_report(path, report)
    before = path.read_bytes()

    def fail(*_):
        raise OSError(errno.ENOSPC, "disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(RunError, match="disk"):
        write_report(path, report)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["index.html"]


def test_large_pictures_shrink_and_a_full_gallery_stays_small(tmp_path):
    rng = np.random.default_rng(0)
    image = np.repeat(np.repeat(rng.integers(0, 256, (47, 63, 3)), 8, 0), 8, 1).astype(np.uint8)
    cam = np.linspace(0, 1, image.shape[1], dtype=np.float32)[None, None] * np.ones(
        (2, image.shape[0], 1), np.float32
    )
    cams = {name: GalleryCam(maps=ClassMaps(np.array([0, 1]), cam)) for name in NAMES}
    mask = np.zeros(image.shape[:2], np.uint8)
    items = [GalleryItem(image_id=str(i), image=image, mask=mask, cams=cams) for i in range(24)]
    write_report(tmp_path / "r.html", make_report(gallery=items))
    assert (tmp_path / "r.html").stat().st_size < 5e6
    assert thumbnail_size((376, 504)) == (286, 384)
    assert thumbnail_size((2000, 1)) == (384, 1)
    assert thumbnail_size((100, 200)) == (100, 200)


def test_score_maps_prefer_the_lowest_class_and_clip():
    cam = np.float32([[[0.5, 1.5, -1.0]], [[0.5, 0.2, -2.0]]])
    maps = score_maps(ClassMaps(np.array([1, 4]), cam[::-1]), (1, 3))
    assert maps.best.tolist() == [[128, 255, 0]]
    assert maps.labels.tolist() == [[2, 5, 2]]
    assert maps.at(0.5).tolist() == [[2, 5, 0]]
    assert maps.at(128 / 255).tolist() == [[0, 5, 0]]
    empty = score_maps(ClassMaps(np.zeros(0, int), np.zeros((0, 1, 3), np.float32)), (1, 3))
    assert empty.at(0.0).tolist() == [[0, 0, 0]]


def test_select_gallery_takes_best_and_worst():
    scores = {f"i{n}": n / 10 for n in range(10)} | {"none": None}
    assert select_gallery(scores, 4) == ("i9", "i8", "i1", "i0")
    assert select_gallery(scores, 3) == ("i9", "i8", "i0")
    assert select_gallery({"b": 0.5, "a": 0.5, "c": 0.5}, 2) == ("a", "c")
    assert select_gallery({"b": None, "a": None}, 5) == ("a", "b")
    assert select_gallery(scores, 1) == ("i9",)
    assert len(select_gallery(scores)) == 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (lambda r: {"results": ()}, "1 to 4 results"),
        (lambda r: {"results": [r.results[0]] * 2}, "different names"),
        (lambda r: {"classes": ("a", "b", "c")}, "other classes"),
        (lambda r: {"gallery": list(r.gallery) * 9}, "27 images"),
        (lambda r: {"results": r.results[:1]}, r"has a map of 'OC-CSE <b>'"),
    ],
)
def test_unusable_reports_are_refused(report, changes, message):
    with pytest.raises(ValueError, match=message):
        make_report(**changes(report))


def test_unusable_gallery_items_are_refused():
    image, cam = np.zeros((2, 3, 3), np.uint8), np.zeros((1, 2, 3), np.float32)

    def item(**changes):
        values = {"image_id": "a1", "image": image, "mask": None, "cams": {}} | changes
        return GalleryItem(**values)

    with pytest.raises(ValueError, match="image 'a1' is float32"):
        item(image=image.astype(np.float32))
    with pytest.raises(ValueError, match="mask of 'a1'"):
        item(mask=np.zeros((3, 2), np.uint8))
    with pytest.raises(ValueError, match="CAM 'x' of 'a1'"):
        item(cams={"x": GalleryCam(maps=ClassMaps(np.array([0, 1]), cam))})
    with pytest.raises(ValueError, match=r"label map 'x' of 'a1' is uint8\[3, 2\], not uint8\[2, 3\]"):
        item(labels={"x": np.zeros((3, 2), np.uint8)})
    with pytest.raises(ValueError, match=r"label map 'classifier' of 'a1': label 4 outside 0\.\.3"):
        make_report(gallery=[item(labels={NAMES[0]: np.full((2, 3), 4, np.uint8)})])
    with pytest.raises(ValueError, match=r"a map of 'x'; the results"):
        make_report(gallery=[item(labels={"x": np.zeros((2, 3), np.uint8)})])
    with pytest.raises(ValueError, match="classes outside"):
        make_report(gallery=[item(cams={NAMES[0]: GalleryCam(maps=ClassMaps(np.array([3]), cam))})])
    with pytest.raises(ValueError, match="series 'l' has 2 x and 1 y"):
        Series(name="l", x=[0, 1], y=[1])
