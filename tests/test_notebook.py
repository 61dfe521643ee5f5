"""The notebook, executed as it stands but for the length of its training."""

import os
import shlex
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
QUICK = {
    "config.model.width": 1 / 32,
    "config.model.blocks": "(0,0,0,0)",
    "config.dataset.shapes.num_train": 32,
    "config.dataset.shapes.num_val": 8,
    "config.batch_size": 16,
    "config.total_epochs": 1,
    "config.classifier.total_epochs": 1,
    "config.loader.workers": 0,
    "config.compilation_cache": "",
}


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(ROOT / "notebooks" / "colab_tpu.ipynb", as_version=4)
    options = shlex.join(f"--{key}={value}" for key, value in QUICK.items()).replace('"', "")
    for cell in notebook.cells:
        cell.source = cell.source.replace("--workdir=runs/notebook", f"--workdir=runs/notebook {options}")
        cell.source = cell.source.replace("runs/notebook", str(tmp_path / "run"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *sys.path]))
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": ROOT}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    text = "".join(output.get("text", "") for output in outputs)
    assert "eval_cam val: mIoU" in text and "put photographs into photos/" in text
    assert any("image/png" in output.get("data", {}) for output in outputs)  # maps side by side
