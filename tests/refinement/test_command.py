"""`python -m wsss_jax.refine` on somebody else's folders."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.refinement.test_crf import picture
from wsss_jax.refine import main

SIZE = (24, 30)


@pytest.fixture
def folders(tmp_path):
    """Three images and psa's dictionaries: two classes, none, and one."""
    for name in ("images/sub", "cams/sub"):
        (tmp_path / name).mkdir(parents=True)
    left = np.zeros(SIZE, np.float32)
    left[:, :12] = 0.9
    maps = {"a": {14: left, 2: left[:, ::-1]}, "sub/b": {}, "c": {7: left}}
    for i, (image_id, cams) in enumerate(maps.items()):
        Image.fromarray(picture(i, SIZE)).save(tmp_path / f"images/{image_id}.png")
        np.save(tmp_path / f"cams/{image_id}.npy", np.array(cams, dtype=object), allow_pickle=True)
    return tmp_path


def run(folders, *flags, out="out"):
    main(
        [
            f"--images={folders}/images",
            f"--cams={folders}/cams",
            f"--out={folders / out}",
            "--backend=jax",
            *flags,
        ]
    )


def affinity_checkpoint(folder):
    """A narrow AffinityNet, saved as the stage `train_affinity` does."""
    from wsss_jax.config import defaults
    from wsss_jax.systems.affinity.make import affinity_net
    from wsss_jax.training.checkpoints import Checkpoints
    from wsss_jax.training.initial import fresh_variables

    config = defaults()
    config.model.update({"width": 1 / 32, "blocks": (0, 0, 0, 0)})
    variables = fresh_variables(affinity_net(config).network, 0)
    meta = {"network": "affinity", "config": config.to_json_best_effort()}
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(1, variables, {"optimizer": np.zeros(1)}, meta)
    return f"--affinity={folder}"


def fails(capsys, folders, *flags):
    with pytest.raises(SystemExit) as stop:
        run(folders, *flags)
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert stop.value.code in (1, 2)
    return error


def mask(path):
    picture = Image.open(path)
    assert picture.mode == "P"
    return np.asarray(picture)


def test_label_maps_and_scores_that_are_made_once(folders, capsys):
    run(folders, "--alphas=4,24", "--scores")
    for alpha in ("alpha_04", "alpha_24"):
        labels = mask(folders / "out" / alpha / "a.png")
        assert labels.shape == SIZE and set(np.unique(labels)) <= {0, 3, 15}
        assert (labels[:, :6] == 15).mean() > 0.9 and (labels[:, -6:] == 3).mean() > 0.9
        assert not mask(folders / "out" / alpha / "sub/b.png").any()
        with np.load(folders / "out" / alpha / "a.npz") as file:
            assert file["keys"].tolist() == [-1, 2, 14] and file["scores"].shape == (3, *SIZE)
    # The higher the exponent, the less background.
    low, high = (mask(folders / f"out/alpha_{a}/c.png") for a in ("04", "24"))
    assert (high > 0).sum() >= (low > 0).sum() > 0
    (folders / "out/alpha_24/c.png").unlink()
    before = {p: p.stat().st_mtime_ns for p in (folders / "out").rglob("a.*")}
    capsys.readouterr()
    run(folders, "--alphas=4,24", "--scores")
    assert "3 images, 2 of them done before" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in (folders / "out").rglob("a.*")} == before
    np.testing.assert_array_equal(mask(folders / "out/alpha_24/c.png"), high)
    assert "alphas [4.0, 24.0], now [4.0]; delete it or choose another --out" in fails(
        capsys, folders, "--alphas=4"
    )


def test_cpns_crf_is_a_preset(folders):
    run(folders, "--preset=cpn", "--alphas=4")
    made = json.loads((folders / "out/settings.json").read_text())["crf"]
    assert made == "5 iterations, Gaussian w 3 sxy 3, bilateral w 10 sxy 50 srgb 13"
    assert set(np.unique(mask(folders / "out/alpha_04/a.png"))) <= {0, 3, 15}


def test_training_labels_of_irn(folders):
    run(folders, "--preset=irn", "--iterations=1")
    labels = mask(folders / "out/a.png")
    assert set(np.unique(labels)) <= {0, 3, 15, 255} and {3, 15} <= set(np.unique(labels))
    assert not mask(folders / "out/sub/b.png").any()


def test_what_is_refused_is_told_and_the_others_are_done(folders, capsys):
    whole = (folders / "cams/a.npy").read_bytes()
    (folders / "cams/a.npy").write_bytes(whole[:300])
    assert "1 of 3 images were refused, the others are done" in fails(capsys, folders, "--alphas=4")
    assert (folders / "out/alpha_04/c.png").is_file() and not (folders / "out/alpha_04/a.png").exists()
    (folders / "cams/a.npy").write_bytes(whole)
    run(folders, "--alphas=4")
    assert (folders / "out/alpha_04/a.png").is_file()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--cams=nowhere"], "--cams=nowhere: there is no such folder"),
        (["--alphas=4,4"], "--alphas: 4,4 are not different numbers"),
        (["--alphas=four"], "invalid _numbers value: 'four'"),
        (["--thresholds=0.3,0.1"], "--thresholds belongs to --preset=irn"),
        (["--preset=irn", "--thresholds=0.1,0.3"], "0.1,0.3 are not a high and a low one"),
        (["--preset=irn", "--scores"], "--alphas and --scores belong to psa's way"),
        (["--gaussian-sxy=0"], "gaussian_sxy of a CRF is 0.0"),
        (["--workers=-1"], "workers -1"),
    ],
)
def test_mistakes_take_one_line(folders, capsys, flags, message):
    assert message in fails(capsys, folders, *flags)
    assert not (folders / "out").exists()


def test_maps_without_a_picture(folders, capsys):
    """Each is refused by itself: a stray file, two images of one name, a name that no file can have."""
    for name in ("stray", "sub/two\nlines"):
        (folders / f"cams/{name}.npy").write_bytes((folders / "cams/c.npy").read_bytes())
    Image.fromarray(picture(5, SIZE)).save(folders / "images/sub/two\nlines.png")
    (folders / "images/a.jpg").write_bytes(b"")
    with pytest.raises(SystemExit) as stop:
        run(folders, "--alphas=4")
    lines = capsys.readouterr().err.strip().splitlines()
    assert stop.value.code == 1 and len(lines) == 4
    assert lines[0].startswith("refused: ") and "are both of image 'a'; remove one" in lines[0]
    assert "stray.npy: there is no image 'stray' in" in lines[1] and ".tiff" in lines[1]
    assert r"'sub/two\nlines' has a backslash, a control character" in lines[2]
    assert "3 of 5 images were refused, the others are done; the first: " in lines[3]
    assert {p.name for p in (folders / "out").rglob("*.png")} == {"b.png", "c.png"}
    for path in folders.glob("images/*.*"):
        path.unlink()
    for path in folders.glob("images/sub/*.*"):
        path.rename(folders / "images/other.png")
    assert "none of the maps has its image in" in fails(capsys, folders)


def test_a_walk_along_affinities(folders, capsys):
    """With a narrow AffinityNet, as `train_affinity` would save it."""
    flag = affinity_checkpoint(folders / "affinity")
    run(folders, flag)
    labels = mask(folders / "out/a.png")
    assert labels.shape == SIZE and set(np.unique(labels)) <= {0, 3, 15}
    assert not mask(folders / "out/sub/b.png").any()
    before = (folders / "out/c.png").stat().st_mtime_ns
    (folders / "out/a.png").unlink()
    run(folders, flag)
    np.testing.assert_array_equal(mask(folders / "out/a.png"), labels)
    assert (folders / "out/c.png").stat().st_mtime_ns == before
    assert "--affinity walks instead" in fails(capsys, folders, flag, "--alphas=4")
    assert "no such file or folder of AffinityNet's weights" in fails(capsys, folders, "--affinity=nowhere")
