"""Flips bits in every file of a run: whoever reads the file notices, or reads what was written.

`log.txt` and the report are for people; no program reads them.
"""

import collections
import functools

import numpy as np
import pytest

from tests.helpers.runs import open_run, tiny
from wsss_jax.data.class_maps import ClassMaps, ImageMaps, background_first, read_maps
from wsss_jax.data.images import read_mask
from wsss_jax.errors import UserError
from wsss_jax.files import read_json, write_json
from wsss_jax.refinement.jobs import Refined
from wsss_jax.runs import manifest, provenance
from wsss_jax.runs.layout import Layout
from wsss_jax.stages import crf, infer, walk
from wsss_jax.stages.evaluate import eval_cam
from wsss_jax.systems.sc_cam import features, subcategories
from wsss_jax.systems.sc_cam.extractor import Pooled
from wsss_jax.systems.sc_cam.files import sub_labels_file
from wsss_jax.training.metrics import MetricWriter, read_lines

FLIPS = 200  # in each file
FOR_PEOPLE = {"log.txt", "index.html"}
SETTINGS = {
    "method": "sc_cam", "dataset": "shapes", "list_sha256": "0" * 64, "weights_sha256": "1" * 64,
    "scales": [1.0], "flip": True, "class_filter": "given",
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with a file of every kind, each written by the program's own functions."""
    config = tiny("sc_cam_shapes")
    run = open_run(config, tmp_path_factory.mktemp("run"))
    rng, split = np.random.default_rng(0), config.dataset.infer_split
    for image_id in run.ids(split):
        H, W = run.source.size(image_id)
        keys = np.flatnonzero(run.source.labels(image_id)).astype(np.int32)
        cam = rng.random((len(keys), H, W), np.float32)
        infer.write_cam(run, image_id, ClassMaps(keys, cam))
    scores = ClassMaps(background_first(keys), rng.random((len(keys) + 1, H, W), np.float32))
    crf._write(run, split, [4.0], Refined(image_id, [scores]))
    cells = scores.planes[:, : -(-H // 8), : -(-W // 8)]
    made = {**SETTINGS, "stage": "random_walk", "level": "share", "stride": 8}
    write_json(run.layout.propagated(split) / "settings.json", made)
    walk.write_scores(run, ImageMaps(image_id, ClassMaps(scores.class_ids, cells)))
    walk.draw_mask(run, 0.5, image_id)
    train = config.dataset.train_split
    features._write(run, Pooled(run.ids(train)[0], rng.random(64, np.float32)))
    labels = rng.integers(0, 2, (24, 12)).astype(np.uint8)
    subcategories.SubLabels(labels, {"k": 2}).save(sub_labels_file(run.layout, train))
    for folder in (run.layout.cams(split), run.layout.crfs(split, 4.0), run.layout.pseudos(split)):
        write_json(folder / "settings.json", SETTINGS)
    writer = MetricWriter(run.layout.logs, 0)
    for step in range(5):
        writer.write(step, {"loss": float(rng.random()), "epoch": step // 2})
    eval_cam(run)
    return run


def read(run, path, warn):
    """What the program makes of a file of the run."""
    layout = run.layout
    within = path.relative_to(layout.workdir).parts[0]
    if path.name == "settings.json":
        return provenance.read_provenance(path.parent)
    if within == "manifest.json":
        return manifest.read(path, warn)
    if within == "config.json":
        return read_json(path, "")
    if within == "metrics":
        return read_json(path, "")
    if within == "logs":
        return read_lines(path, warn)
    if within == "cam":
        return list(read_maps(path, path.stem, run.source.size(path.stem)))
    if within in ("crf", "pseudo_scores"):
        stride = 8 if within == "pseudo_scores" else 1
        size = tuple(-(-n // stride) for n in run.source.size(path.stem))
        return read_maps(path, path.stem, size, background=True, stage=within)
    if within == "pseudo":
        return [read_mask(path, path.stem, len(run.source.classes), run.source.size(path.stem))]
    if within == "features":
        return [subcategories._load_feature(run, path.stem)]
    assert path == sub_labels_file(layout, run.config.dataset.train_split)
    found = subcategories.load_sub_labels(path)
    return [found.labels, np.array(str(found.provenance))]


def outcome(wanted, read):
    """'noticed', 'harmless' or 'silent'."""
    warnings = []
    try:
        found = read(warnings.append)
    except UserError as error:
        assert "\n" not in str(error)
        return "noticed"
    if warnings:
        return "noticed"
    if isinstance(wanted, dict) or isinstance(wanted[0], dict):
        return "harmless" if found == wanted else "silent"
    same = [describe(a) == describe(b) for a, b in zip(wanted, found, strict=True)]
    return "harmless" if all(same) else "silent"


def describe(array):
    return array.dtype, array.shape, array.tobytes()


def one_of_each(layout: Layout):
    """The last file of each folder, and every file that has none like it."""
    kinds = {}
    for path in sorted(layout.workdir.rglob("*")):
        if path.is_file() and path.name not in FOR_PEOPLE:
            kinds[path.parent, path.suffix, path.name if path.suffix == ".json" else ""] = path
    return list(kinds.values())


def test_no_flipped_bit_goes_unnoticed(run, record_property):
    rng, counts = np.random.default_rng(1), collections.Counter()
    paths = one_of_each(run.layout)
    assert len(paths) == 14
    for path in paths:
        whole = path.read_bytes()
        wanted = read(run, path, print)
        for place in rng.choice(len(whole), min(FLIPS, len(whole)), replace=False):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << rng.integers(8)
            path.write_bytes(damaged)
            found = outcome(wanted, functools.partial(read, run, path))
            assert found != "silent", f"{path}: byte {place} of {len(whole)}"
            counts[found] += 1
        path.write_bytes(whole)
        assert outcome(wanted, functools.partial(read, run, path)) == "harmless"
    record_property("flips", dict(counts))
    print(dict(counts))
    assert counts["noticed"] > counts["harmless"] > 0
