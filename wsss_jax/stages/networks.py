"""Which weights a run starts from, and which it uses afterwards."""

from pathlib import Path
from typing import Any

from wsss_jax.data.loader import BatchLoader, ClassificationSample
from wsss_jax.errors import CheckpointError, ConfigError, RunError
from wsss_jax.method import Variables
from wsss_jax.stages.context import Run
from wsss_jax.stages.samples import recipe
from wsss_jax.training.checkpoints import Restored, best_step, restore, steps
from wsss_jax.training.initial import calibrate, fresh_variables, variable_shapes
from wsss_jax.weights import check_against, load_foreign, take_fresh

_FOREIGN = "resnet38_cls"  # what a published file must hold, whatever method uses it
_HEADS = ("fc8",)  # what a file of ImageNet weights does not have


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
            variables[name] = load_variables(run, judge_path(run), network)
    return variables


def judge_path(run: Run) -> Path:
    """Where the frozen classifier of class-specific erasing comes from: a given checkpoint, or the run in
    the run."""
    given = run.config.cse.classifier_from
    path = Path(given).expanduser() if given else run.layout.classifier
    if not path.exists():
        hint = (
            "check config.cse.classifier_from"
            if given
            else "run the stage classifier first (--stages=classifier,...)"
        )
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
    network = run.method.networks[run.method.trained]
    check_against(restored.variables, variable_shapes(network), source=str(folder / str(step)))
    how = run.config.cam.checkpoint
    run.say(f"weights: {run.method.trained} of step {step} ({how}, {restored.meta['epochs']:g} epochs)")
    return {run.method.trained: restored.variables}, restored.meta["digest"]["variables"]


def load_variables(run: Run, path: str | Path, network: Any) -> dict[str, Any]:
    """Reads a network's variables from another run, a checkpoint or a published file.

    Args:
      run: `model.fresh_heads` names heads that are not taken from there, because the classes are others.
      path: a run's folder, its checkpoints, one step of them, or a `.params`, `.pth`, `.safetensors` or
        `.npz` file.
      network: the flax module that they must fit; a head that ImageNet weights lack starts fresh.

    Raises:
      CheckpointError: the file or folder cannot be read or is of another network.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        variables = restore(step_folder(place)).variables
    else:
        variables = load_foreign(place, _FOREIGN, allow_missing=_HEADS)
    heads = {*run.config.model.fresh_heads, *(head for head in _HEADS if head not in variables["params"])}
    variables = (
        take_fresh(variables, fresh_variables(network, run.config.seed), heads) if heads else variables
    )
    check_against(variables, variable_shapes(network), source=str(place))
    return variables


def _start(run: Run, network: Any) -> dict[str, Any]:
    start = run.config.init_from
    if start == "scratch":
        return _from_scratch(run, network)
    if start == "classifier":
        return load_variables(run, judge_path(run), network)
    if not Path(start).expanduser().exists():
        raise ConfigError(
            f"config.init_from={start!r}: there is no such file or folder; docs/checkpoints.md tells where "
            "published weights are, and --config.init_from=scratch starts without any"
        )
    return load_variables(run, start, network)


def _from_scratch(run: Run, network: Any) -> dict[str, Any]:
    """Fresh weights, with batch norms measured on the first training images."""
    config = run.config
    sample = ClassificationSample(run.source, recipe(config))
    ids = run.ids(config.dataset.train_split)
    count = min(config.batch_size * config.model.calibration_batches, len(ids))
    with BatchLoader(
        sample, ids, batch_size=count, seed=config.seed, threads=config.loader.threads
    ) as loader:
        batch = next(loader)
    return calibrate(network, fresh_variables(network, config.seed), batch["image"], batch["box"])


def step_folder(path: Path) -> Path:
    """The folder of one step, given it, the folder of a network's checkpoints, or a run's folder."""
    if (path / "meta").is_dir():
        return path
    if steps(path):
        return path / str(best_step(path))
    inside = [p for p in sorted(path.glob("checkpoints/*")) if steps(p)]
    if len(inside) == 1:
        return inside[0] / str(best_step(inside[0]))
    raise CheckpointError(
        f"{path}: holds no checkpoint; give a run's folder, its checkpoints/<network> or one step"
    )


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
