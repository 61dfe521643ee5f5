"""From a published-style PyTorch file through the converter and the main program to CAMs, as a user goes."""

import subprocess
import sys

import numpy as np
from PIL import Image

from tests.helpers.golden import names, state_dict
from tests.helpers.runs import ROOT
from tests.helpers.torch_files import write_zip
from wsss_jax.data.voc import CLASSES


def published_cams(folder, config, network, image, classes, converted, **settings):
    """Keys and CAMs [K, H, W] of one image from a state dict by the golden files' rule, one view at a time.

    `config` is one of configs/, `converted` says whether the file goes through the converter first, and
    `settings` are 'section.key' with two underscores for the dot.
    """
    weights = folder / f"{network}.pth"
    write_zip(weights, state_dict("dev", names(network)))
    if converted:
        run("-m", "tools.convert_weights", str(weights), str(folder / "converted"))
        weights.unlink()
        weights = folder / "converted"
    settings = {
        "dataset__name": "folder",
        "dataset__root": one_picture(folder / "data", image, classes),
        "dataset__infer_split": "all",
        "cam__checkpoint": weights,
        "cam__batch_size": 1,
        "compilation_cache": "",
        **settings,
    }
    flags = [f"--config.{key.replace('__', '.')}={value}" for key, value in settings.items()]
    main = ("-m", "wsss_jax.main", f"--config=configs/{config}.py", "--stages=infer_cam")
    run(*main, f"--workdir={folder}/run", *flags)
    (path,) = (folder / "run/cam/all").glob("picture*.npz")
    with np.load(path) as file:
        return file["keys"], file["cam"]


def one_picture(folder, image, classes):
    """A data set in a folder: one image of some of VOC's classes."""
    (folder / "images").mkdir(parents=True)
    Image.fromarray(image).save(folder / "images/picture.png")
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    present = ";".join(CLASSES[c] for c in classes)
    (folder / "labels.csv").write_text(f"image,labels\npicture.png,{present}\n")
    return folder


def run(*command):
    """Runs Python with these arguments in the repository's root; it must succeed."""
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
