"""The experiments of configs/ by name; they lie beside the package in a clone and inside it in a wheel."""

import ast
import importlib.util
from pathlib import Path
from types import ModuleType


def folder() -> Path:
    """Where they lie."""
    package = Path(__file__).resolve().parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def names() -> tuple[str, ...]:
    """All of them, such as 'cse_voc', sorted."""
    return tuple(sorted(path.stem for path in folder().glob("[a-z]*.py")))


def path_of(name: str) -> Path:
    """The file of one of `names`."""
    return folder() / f"{name}.py"


def load(name: str) -> ModuleType:
    """One of `names` as a module, for experiments that build on another one."""
    spec = importlib.util.spec_from_file_location(name, path_of(name))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def summary(name: str) -> str:
    """The first sentence of what the file of one of `names` says about it."""
    text = ast.get_docstring(ast.parse(path_of(name).read_text(encoding="utf-8"))) or ""
    return text.partition("\n\n")[0].replace("\n", " ")
