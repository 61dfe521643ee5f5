"""Which weights a run starts from, and which it uses afterwards."""

from pathlib import Path
from typing import Any

from flax.traverse_util import flatten_dict

from wsss_jax.data.loader import BatchLoader, ClassificationSample
from wsss_jax.errors import CheckpointError, ConfigError, RunError
from wsss_jax.method import Variables
from wsss_jax.stages.context import Run
from wsss_jax.stages.layout import Layout
from wsss_jax.stages.samples import recipe
from wsss_jax.training.checkpoints import Restored, best_step, restore, steps
from wsss_jax.training.initial import calibrate, fresh_variables, variable_shapes

_HEADS = ("fc8",)  # layers that a file of ImageNet weights does not have


def initial_variables(run: Run, restored: Restored | None) -> Variables:
    """Variables of all networks before the first step, or where `restored` goes on.

    Raises:
      ConfigError: `init_from` is missing or means nothing.
      CheckpointError: it is not of this network.
    """
    method, variables = run.method, {}
    for name, network in method.networks.items():
        if name == method.trained and restored is not None:
            variables[name] = restored.variables
        elif name == method.trained:
            variables[name] = _start(run, network)
        else:
            variables[name] = load_variables(judge_path(run), network)
    return variables


def judge_path(run: Run) -> Path:
    """Where the frozen classifier of class-specific erasing comes from: a given checkpoint, or the run in the run."""
    given = run.config.cse.classifier_from
    path = Path(given).expanduser() if given else run.layout.classifier
    if not path.exists():
        hint = "check config.cse.classifier_from" if given else "run the stage classifier first (--stages=classifier,...)"
        raise RunError(f"{path}: there is no classifier there; {hint}")
    return path


def result_variables(run: Run) -> tuple[Variables, str]:
    """The trained network's variables by `cam.checkpoint`, and their SHA-256.

    Raises:
      RunError: nothing is trained yet, or there is no such step.
      CheckpointError: it is damaged or of another network.
    """
    folder = run.layout.checkpoints(run.method.trained)
    step = _chosen_step(folder, run.config.cam.checkpoint)
    restored = restore(folder / str(step))
    _check(restored.variables, run.method.networks[run.method.trained], folder / str(step))
    how = run.config.cam.checkpoint
    run.say(f"weights: {run.method.trained} of step {step} ({how}, {restored.meta['epochs']:g} epochs)")
    return {run.method.trained: restored.variables}, restored.meta["digest"]["variables"]


def load_variables(path: str | Path, network: Any, fresh: dict[str, Any] | None = None) -> dict[str, Any]:
    """Reads a network's variables from a run's folder, its checkpoints or one step of them.

    Args:
      path: the best step is taken where there are several.
      network: the flax module that they must fit.
      fresh: variables from which heads that the file lacks are taken.
    """
    folder = _step_folder(Path(path).expanduser())
    variables = restore(folder).variables
    _check(variables, network, folder)
    return variables


def _start(run: Run, network: Any) -> dict[str, Any]:
    start = run.config.init_from
    if start == "scratch":
        return _from_scratch(run, network)
    if start == "classifier":
        return load_variables(judge_path(run), network)
    if not Path(start).expanduser().exists():
        raise ConfigError(
            f"config.init_from={start!r}: there is no such file or folder; docs/checkpoints.md tells where the "
            "published weights are, and --config.init_from=scratch starts without any"
        )
    return load_variables(start, network)


def _from_scratch(run: Run, network: Any) -> dict[str, Any]:
    """Fresh weights, with batch norms measured on the first training images."""
    config = run.config
    sample = ClassificationSample(run.source, recipe(config))
    ids = run.ids(config.dataset.train_split)
    count = min(config.batch_size * config.model.calibration_batches, len(ids))
    with BatchLoader(sample, ids, batch_size=count, seed=config.seed, threads=config.loader.threads) as loader:
        batch = next(loader)
    return calibrate(network, fresh_variables(network, config.seed), batch["image"], batch["box"])


def _step_folder(path: Path) -> Path:
    """The folder of one step, given it, the folder of a network's checkpoints, or a run's folder."""
    if (path / "meta").is_dir():
        return path
    if steps(path):
        return path / str(best_step(path))
    inside = [p for p in sorted(path.glob("checkpoints/*")) if steps(p)]
    if len(inside) == 1:
        return inside[0] / str(best_step(inside[0]))
    raise CheckpointError(f"{path}: holds no checkpoint; give a run's folder, its checkpoints/<network> or one step")


def _chosen_step(folder: Path, choice: str) -> int:
    saved = steps(folder)
    if not saved:
        raise RunError(f"{folder}: nothing is trained yet; run the stage train first (--stages=train,...)")
    if choice == "last":
        return saved[-1]
    if choice == "best":
        step = best_step(folder)
        return saved[-1] if step is None else step
    if not choice.isdigit() or int(choice) not in saved:
        raise RunError(f"config.cam.checkpoint={choice!r}: choose best, last or one of the steps {saved}")
    return int(choice)


def _check(variables: dict[str, Any], network: Any, where: Path) -> None:
    expected = flatten_dict(variable_shapes(network), sep="/")
    found = flatten_dict(variables, sep="/")
    missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    wrong = [
        f"{name} {found[name].shape} instead of {expected[name].shape}"
        for name in sorted(expected.keys() & found.keys())
        if found[name].shape != expected[name].shape
    ]
    if missing or extra or wrong:
        raise CheckpointError(
            f"{where}: of another network; missing: {missing or 'nothing'}; not wanted: {extra or 'nothing'}; "
            f"of another shape: {wrong or 'nothing'}; set config.model as it was trained"
        )
