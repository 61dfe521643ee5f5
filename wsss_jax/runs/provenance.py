"""What results were made with: written beside them, and compared before more are added to them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from wsss_jax.errors import RunError
from wsss_jax.files import read_json, write_json
from wsss_jax.runs.layout import holds_results

FILE = "settings.json"


def record_provenance(
    folder: Path, provenance: Mapping[str, Any], what: str, flag: str = "--workdir"
) -> None:
    """Writes the provenance of a folder's results, or checks that those which are there have the same.

    Raises:
      RunError: the folder holds results of another provenance; the message names what differs.
    """
    path, provenance = folder / FILE, json.loads(json.dumps(dict(provenance)))  # lists, as in the file
    if path.exists() and holds_results(folder):
        check_provenance(folder, what, read_provenance(folder), provenance, flag)
    elif jax.process_index() == 0:
        write_json(path, provenance)


def read_provenance(folder: Path) -> dict[str, Any]:
    """The provenance of a folder's results; RunError if it is missing or not as it was written."""
    return read_json(folder / FILE, f"delete {folder} and run the stage that makes it again")


def check_provenance(
    path: Path, what: str, found: Mapping[str, Any], wanted: Mapping[str, Any], flag: str = "--workdir"
) -> None:
    """Raises RunError, naming what differs, if results are not of the wanted provenance.

    Args:
      path: where they are.
      what: they are.
      found: their provenance.
      wanted: what it should be.
      flag: the command's, by which another place can be chosen.
    """
    differing = [key for key in {**wanted, **found} if found.get(key) != wanted.get(key)]
    if differing:
        was = ", ".join(f"{key} {found.get(key)!r}, now {wanted.get(key)!r}" for key in differing)
        raise RunError(f"{path} holds {what} made with {was}; delete it or choose another {flag}")
