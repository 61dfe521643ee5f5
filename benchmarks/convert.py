"""Converting a published-size checkpoint against reading the same numbers with NumPy.

The file is the classifier on ResNet-38 at full width (229 tensors, 105 M parameters, 420 MB) with random
numbers, as an MXNet parameter file of the oldest layout, and as safetensors and `.npz` exported from it.
Every measurement runs in a process of its own, with the file in the page cache. The operations take turns and
the fastest round of each counts: the same read takes 0.3 s or 1.3 s on a virtual machine, depending on
whether the host has memory at hand. Reading with NumPy is `numpy.load` of an uncompressed `.npz` of the same
numbers, all of them brought into memory.
"""

import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wsss_jax.weights.networks import NETWORKS, mxnet_names

_REPEATS = 5
# Each prints its seconds and the memory that it needed beyond the imports. Linux counts VmHWM from the start
# of the program, unlike getrusage's maximum, which a large parent process passes on.
_PROGRAM = """
import json, re, sys, time
source, target = sys.argv[1:]
{imports}
peak = lambda: 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
before = peak()
start = time.perf_counter()
{work}
print(json.dumps([time.perf_counter() - start, peak() - before]))
"""
_CONVERT = "from wsss_jax.convert.destination import write\nfrom wsss_jax.convert.source import read_source"
_ORBAX = "\nimport wsss_jax.training.checkpoints"
_LOAD = "from wsss_jax import weights"


class _Case(NamedTuple):
    """An operation as a program, and the file that it reads."""

    operation: str
    imports: str
    work: str
    source: Path
    size: int


def rows() -> list[dict[str, Any]]:
    """Measures; one row for each operation.

    Returns:
      Dictionaries with `operation`, `bytes` of the source, `seconds` and those of the `slowest` round,
      `times_numpy` (seconds over those of `numpy.load` for the same numbers) and `peak_memory` over the
      source's size.
    """
    with tempfile.TemporaryDirectory() as folder:
        archive, params = Path(folder, "numpy.npz"), Path(folder, "mxnet.params")
        _make(archive, params)
        cases = _cases(archive, params)
        rounds = [[_measure(case) for case in cases] for _ in range(_REPEATS)]
    return [_row(i, case, rounds) for i, case in enumerate(cases)]


def _cases(archive: Path, params: Path) -> list[_Case]:
    numpy_work = "z = np.load(source); arrays = {k: z[k] for k in z.files}"
    load = "variables = weights.load_foreign(source, 'resnet38_base')"
    convert = "write(read_source(source, None), target, {form!r})"
    cases = [
        ("read .npz with numpy.load", "import numpy as np", numpy_work, archive),
        ("load .params for training", _LOAD, load, params),
        ("load .npz for training", _LOAD, load, archive),
        ("convert .params to safetensors", _CONVERT, convert.format(form="safetensors"), params),
        ("convert .params to npz", _CONVERT, convert.format(form="npz"), params),
        ("convert .params to orbax", _CONVERT + _ORBAX, convert.format(form="orbax"), params),
    ]
    return [_Case(*case, case[-1].stat().st_size) for case in cases]


def _row(number: int, case: _Case, rounds: list[list[tuple[float, int]]]) -> dict[str, Any]:
    """What an operation took, over all rounds; the first operation of a round is NumPy's."""
    seconds = [times[number][0] for times in rounds]
    return {
        "operation": case.operation,
        "bytes": case.size,
        "seconds": round(min(seconds), 3),
        "slowest": round(max(seconds), 3),
        "times_numpy": round(min(seconds) / min(times[0][0] for times in rounds), 2),
        "peak_memory": round(max(times[number][1] for times in rounds) / case.size, 2),
    }


def _make(archive: Path, params: Path) -> None:
    """Writes the trunk's tensors twice: by NumPy under PyTorch's names, and as MXNet wrote in 2017."""
    shapes = _shapes()
    rng = np.random.default_rng(0)
    tensors = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    np.savez(archive, **tensors)  # type: ignore[arg-type]
    theirs = {name: ours for name, ours in mxnet_names().items() if ours in tensors}
    with open(params, "wb") as stream:
        stream.write(struct.pack("<3Q", 0x112, 0, len(theirs)))
        for ours in theirs.values():
            shape = tensors[ours].shape
            stream.write(struct.pack(f"<{1 + len(shape)}I3i", len(shape), *shape, 2, 0, 0))
            stream.write(tensors[ours].tobytes())
        stream.write(struct.pack("<Q", len(theirs)))
        for name in theirs:
            stream.write(struct.pack("<Q", len(name)) + name.encode())


def _shapes() -> dict[str, tuple[int, ...]]:
    """Shapes of the trunk at full width, from its plan: blocks' inputs, middle and output channels."""
    plan = {"b2": (64, 128, 128), "b3": (128, 256, 256), "b4": (256, 512, 512), "b5": (512, 512, 1024)}
    bottlenecks = {"b6": (1024, 512, 1024, 2048), "b7": (2048, 1024, 2048, 4096)}
    shapes: dict[str, tuple[int, ...]] = {}
    for module in NETWORKS["resnet38_base"].modules:
        block, _, layer = module.torch.rpartition(".")
        stage = block.partition("_")[0]
        channels = plan.get(stage) or bottlenecks.get(stage) or (3, 64, 4096)
        if "_" in block:  # a plain block: its input is its stage's output
            channels = (channels[2], *channels[1:])
        shape = _layer_shape(layer, channels, deep=stage in bottlenecks)
        if module.kind == "conv":
            shapes[f"{module.torch}.weight"] = shape
        else:
            leaves = ("weight", "bias", "running_mean", "running_var")
            shapes |= {f"{module.torch}.{leaf}": shape for leaf in leaves}
    return shapes


def _layer_shape(layer: str, channels: tuple[int, ...], deep: bool) -> tuple[int, ...]:
    kernel = 1 if deep else 3
    inputs, first, *_, last = channels
    return {
        "conv1a": (64, 3, 3, 3),
        "bn7": (4096,),
        "bn_branch2a": (inputs,),
        "conv_branch2a": (first, inputs, kernel, kernel),
        "bn_branch2b1": (first,),
        "conv_branch2b1": (channels[2], first, 3, 3),
        "bn_branch2b2": (channels[2],),
        "conv_branch2b2": (last, channels[2], 1, 1),
        "conv_branch1": (last, inputs, 1, 1),
    }[layer]


def _measure(case: _Case) -> tuple[float, int]:
    """Seconds and bytes of memory beyond the imports, in a process of its own."""
    target = case.source.parent / "target"
    program = _PROGRAM.format(imports=case.imports, work=case.work)
    command = [sys.executable, "-c", program, str(case.source), str(target)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    subprocess.run(["rm", "-rf", str(target)], check=True)
    seconds, used = json.loads(output.splitlines()[-1])
    return seconds, used


if __name__ == "__main__":
    for row in rows():
        print(row)
