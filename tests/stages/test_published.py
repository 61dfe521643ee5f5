"""From a published-style PyTorch file through the converter and the main program to the references' CAMs."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.helpers.golden import GOLDEN, names, state_dict
from tests.helpers.networks import relative
from tests.helpers.runs import ROOT
from tests.helpers.torch_files import write_zip
from wsss_jax.data.voc import CLASSES


def run(*command):
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("converted", [True, False])
def test_a_pytorch_file_gives_the_cams_of_psa(tmp_path, converted):
    golden = np.load(GOLDEN / "infercam_baseline.npz")
    classes = sorted(int(c) for c in golden["classes"])
    data = tmp_path / "data"
    (data / "images").mkdir(parents=True)
    Image.fromarray(golden["image"]).save(data / "images/golden.png")
    (data / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    present = ";".join(CLASSES[c] for c in classes)
    (data / "labels.csv").write_text(f"image,labels\ngolden.png,{present}\n")
    weights = tmp_path / "res38_cls.pth"
    write_zip(weights, state_dict("dev", names("resnet38_cls")))
    if converted:
        run("-m", "tools.convert_weights", str(weights), str(tmp_path / "converted"))
        weights.unlink()
        weights = tmp_path / "converted"
    settings = {
        "dataset.name": "folder",
        "dataset.root": data,
        "dataset.infer_split": "all",
        "cam.checkpoint": weights,
        "cam.batch_size": 1,
        "compilation_cache": "",
    }
    flags = [f"--config.{key}={value}" for key, value in settings.items()]
    main = ("-m", "wsss_jax.main", "--config=configs/cam_voc.py", "--stages=infer_cam")
    run(*main, f"--workdir={tmp_path}/run", *flags)
    (path,) = (tmp_path / "run/cam/all").glob("golden*.npz")
    with np.load(path) as file:
        np.testing.assert_array_equal(file["keys"], classes)
        assert relative(file["cam"], golden["baseline_cam"][np.argsort(golden["classes"])]) < 1e-4
