"""The package as a whole: what may import what, and what starting a command costs."""

import ast
import graphlib
import importlib
import os
import pkgutil
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from wsss_jax.systems import SYSTEMS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "wsss_jax"

# From the bottom upwards: a part may import itself and those in lines above its own.
ORDER = (
    ("errors",),
    ("commandline", "experiments", "files", "folder_lock", "interrupt", "progress", "settings"),
    ("config",),
    ("weights",),
    ("data",),
    ("ops",),
    ("models",),
    ("task", "sharding"),
    ("hosts",),
    ("method", "training", "inference", "evaluation"),
    ("refinement",),
    ("report",),
    ("runs",),
    ("stages", "flags", "reference"),
    ("systems",),
    ("convert", "predictor"),
    ("doors",),
)
DOORS = ("main", "cam", "segment", "prepare", "refine")
RANKS = {part: rank for rank, parts in enumerate(ORDER) for part in parts}
NUMPY_ONLY = (
    "data",
    "weights",
    "config",
    "settings",
    "reference",
    "errors",
    "commandline",
    "experiments",
    "flags",
    "evaluation",
    "report",
)
HEAVY = ("jax", "jaxlib", "flax", "optax", "orbax")
OPTIONAL = ("pycocotools", "pydensecrf", "tensorflow_datasets", "tensorboardX", "torch")
"""Top-level packages that a module of ours may be missing: of the extras, or only compared with."""

MODULES = sorted(
    module.name
    for top in ("wsss_jax", "tools", "benchmarks", "configs")
    for module in pkgutil.walk_packages([str(ROOT / top)], f"{top}.")
    if not module.name.endswith("__main__")
)


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
NAMES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES
}


def _imports(path):
    """Yields (line, module's dotted name) of what a file imports, inside functions and by a text, too: one
    such as 'wsss_jax.main:command' is imported when it is asked for."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            inside = [f"{base}.{alias.name}" for alias in node.names]
            yield from ((node.lineno, name if name in NAMES else base) for name in inside)
        elif isinstance(node, ast.Constant) and re.fullmatch(r"wsss_jax[\w.]*:\w+", str(node.value)):
            yield node.lineno, node.value.partition(":")[0]


def _part(path):
    """The name of the part of the program that a file belongs to, 'data' say; 'doors' for a command's.

    The files in which parts declare their settings are one part, which nearly all others may import.
    """
    if path.name == "settings.py":
        return "settings"
    name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "doors" if name in DOORS or path.name == "__main__.py" else name


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downwards(path):
    part = _part(path)
    assert part in RANKS, f"give {part} its rank in this test"
    for line, name in _imports(path):
        assert not name.startswith("."), f"{path}:{line}: relative import"
        imported = _part(NAMES[name]) if name in NAMES else part
        downwards = imported == part or RANKS[imported] < RANKS[part]
        assert downwards, f"{path}:{line}: {part} may not import {name}"


def test_no_modules_import_each_other():
    """Nor do they round a corner, in a package or out of it."""
    graph = {name: {other for _, other in _imports(path)} - {name} for name, path in NAMES.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"a circle of imports: {' < '.join(error.args[1])}")


# Names that are also words for other things: class activation maps, and a stage.
_OTHER_THINGS = {"cam", "infer_cam"}
# What else bears the names of published systems: their state dicts; their CRF's numbers, and --affinity.
_OTHER_NAMES = ("weights/networks.py", "refine.py")


def _texts(tree):
    """The texts of a module but for docstrings."""
    documented = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented:
            yield node.lineno, node.value


def _asks(node):
    """Whether a method's name is compared, or something is looked up by it."""
    looks = {ast.Compare: "left comparators", ast.Subscript: "slice"}.get(type(node), "")
    operands = [getattr(node, name) for name in looks.split()]
    flat = [each for operand in operands for each in (operand if isinstance(operand, list) else [operand])]
    return any(re.search(r"\bconfig\.method$|\['method'\]$", ast.unparse(each)) for each in flat)


@pytest.mark.parametrize(
    "path",
    [p for p in FILES if _part(p) not in ("systems", "settings")],
    ids=lambda p: str(p.relative_to(PACKAGE)),
)
def test_only_systems_name_systems(path):
    names = SYSTEMS.systems.keys() - _OTHER_THINGS
    titles = {SYSTEMS.system(name).title for name in SYSTEMS.systems}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    asking = [node.lineno for node in ast.walk(tree) if _asks(node)]
    assert not asking, f"{path}:{asking}: asks for config.method; let `System` or `Stage` say what differs"
    if str(path.relative_to(PACKAGE)) in _OTHER_NAMES:
        return
    word = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, [*names, *titles]))})(?![\w-])")
    named = [(line, text) for line, text in _texts(tree) if word.search(text)]
    assert not named, f"{path}: {named}"
    sections = [n.lineno for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr in names]
    assert not sections, f"{path}:{sections}: reads a system's settings"
    imported = [item for item in _imports(path) if item[1].startswith("wsss_jax.systems.")]
    imported = [item for item in imported if item[1] != "wsss_jax.systems.settings"]
    assert not imported, f"{path}: {imported}"


@pytest.mark.parametrize("part", NUMPY_ONLY)
def test_host_side_code_does_not_import_jax(part):
    for path in (path for path in FILES if _part(path) == part):
        for line, name in _imports(path):
            assert name.split(".")[0] not in HEAVY[:-1], f"{path}:{line}: imports {name}"


def test_flax_modules_are_only_in_models_and_systems():
    using = {_part(path) for path in FILES for _, name in _imports(path) if name.startswith("flax.linen")}
    assert using == {"models", "systems"}


def test_tools_are_not_imported_by_the_package():
    for path in FILES:
        for line, name in _imports(path):
            assert name.split(".")[0] not in ("tools", "benchmarks", "configs", "tests"), f"{path}:{line}"


@pytest.mark.parametrize("name", MODULES)
def test_every_module_can_be_imported(name):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in OPTIONAL:
            raise
        pytest.skip(f"needs the extra that has {error.name}")


@pytest.mark.parametrize(
    "name",
    [
        "wsss_jax.main",
        "wsss_jax.data",
        "wsss_jax.weights",
        "wsss_jax.reference",
        "wsss_jax.systems.affinity.labels, wsss_jax.systems.cpn.patches",  # samples, made by loader workers
        "wsss_jax.systems.deeplab_v2.crops, wsss_jax.data.masks",
    ],
)
def test_starting_up_loads_nothing_heavy(name):
    """Loader workers import the data package each, and `--help` should not take seconds."""
    code = f"import sys, {name}; print(*sorted({set(HEAVY)} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_version_is_the_changelogs_or_unreleased():
    import wsss_jax

    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{wsss_jax.__version__}]" in text or "## [Unreleased]" in text


def test_readme_names_the_extras_that_there_are():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    sentence = re.search(r"Extras: (.*?), as in", (ROOT / "README.md").read_text(), re.DOTALL)
    assert set(re.findall(r"`(\w+)`", sentence[1])) == set(extras)


def test_what_is_installed_is_one_package_with_its_experiments(monkeypatch):
    setuptools, given = pytest.importorskip("setuptools"), {}
    monkeypatch.setattr(setuptools, "setup", given.update)
    monkeypatch.chdir(ROOT)
    runpy.run_path("setup.py")
    assert {name.split(".")[0] for name in given["packages"]} == {"wsss_jax"}
    assert {"wsss_jax.stages", "wsss_jax.convert", "wsss_jax.configs"} <= set(given["packages"])
    assert given["package_dir"] == {"wsss_jax.configs": "configs"}


def test_experiments_inside_the_package_build_on_each_other(tmp_path):
    """As a wheel holds them, found from any folder."""
    lib, ignored = tmp_path / "lib/wsss_jax", shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, lib, ignore=ignored)
    shutil.copytree(ROOT / "configs", lib / "configs", ignore=ignored)
    done = subprocess.run(
        [sys.executable, "-m", "wsss_jax", "run", "--config=cse_shapes", "--config.flop=1"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "lib")},
        capture_output=True,
        text=True,
    )
    found = lib / "configs/cse_shapes.py"
    assert done.stderr.startswith(f"Error: --config.flop: there is no such key in {found}; did you mean")
