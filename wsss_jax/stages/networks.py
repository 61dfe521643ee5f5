"""Which weights a run starts from, and which it uses afterwards."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from etils import epath

from wsss_jax.data.loader import BatchLoader, ClassificationSample
from wsss_jax.errors import CheckpointError, ConfigError, RunError
from wsss_jax.runs.context import Run, require
from wsss_jax.stages.samples import recipe
from wsss_jax.task import Variables
from wsss_jax.training.checkpoints import (
    Restored,
    best_first,
    best_step,
    digest,
    read_meta,
    restore,
    restore_first,
    steps,
)
from wsss_jax.training.initial import calibrate, fresh_variables, variable_shapes
from wsss_jax.weights import add_background, check_against, load_foreign, take_fresh
from wsss_jax.weights.networks import NETWORKS


def initial_variables(run: Run, restored: Restored | None) -> Variables:
    """Variables of all networks before the first step, or where `restored` goes on.

    Raises:
      ConfigError: `init_from` is missing or means nothing.
      CheckpointError: it is not of this network.
    """
    method, learning, variables = run.method, run.method.learning, {}
    for name, network in method.networks.items():
        if name in learning and restored is not None:
            variables[name] = restored.networks[name]
        elif name in method.fresh:
            variables[name] = fresh_variables(network, run.config.seed)
        elif name in learning:
            variables[name] = _start(run, network)
        else:
            variables[name] = load_variables(run, classifier_path(run), network)
    return variables


def classifier_path(run: Run) -> str:
    """Where the ordinary classifier that a method needs comes from: `classifier_from`, else the run's own.

    Raises:
      RunError: the run's own is not trained yet.
    """
    if run.config.classifier_from:
        return run.config.classifier_from
    require(run.layout.classifier, "weights of a classifier", "classifier")
    return str(run.layout.classifier)


def result_variables(run: Run) -> tuple[Variables, str]:
    """The weights that `cam.checkpoint` names, and their SHA-256.

    Raises:
      RunError: nothing is trained yet, or there is no such step.
      CheckpointError: they are damaged or of another network.
    """
    method, choice = run.method, run.config.cam.checkpoint
    if choice not in ("best", "last") and not choice.isdigit():
        found = {
            name: load_variables(run, path, method.networks[name], complete=True, name=name)
            for name, path in weight_paths(run).items()
        }
        run.say(f"weights: {choice}")
        (only, *others) = found.values()
        return found, digest(found if others else only)
    folder = run.layout.checkpoints(method.name)
    restored = _chosen(run, folder, choice)
    for name, variables in restored.networks.items():
        source = str(folder / str(restored.step))
        check_against(variables, variable_shapes(method.networks[name]), source=source)
    run.say(f"weights: {method.name} of step {restored.step} ({choice}, {restored.meta['epochs']:g} epochs)")
    return restored.networks, restored.meta["digest"]["variables"]


def weight_paths(run: Run) -> dict[str, str]:
    """The path of each network's weights, where `cam.checkpoint` names paths: PATH or NAME=PATH,NAME=PATH.

    A folder of checkpoints holds all networks of its system.

    Raises:
      ConfigError: networks are not those of the system.
    """
    names, choice = run.method.learning, run.config.cam.checkpoint
    given = {pair.partition("=")[0]: pair.partition("=")[2] for pair in choice.split(",")}
    if given.keys() == set(names) and all(given.values()):
        return {name: given[name] for name in names}
    if len(names) > 1 and not epath.Path(choice).expanduser().is_dir():
        raise ConfigError(
            f"config.cam.checkpoint={choice!r}: give best, last, a step, a run's folder, or files of all "
            f"networks: {','.join(f'{name}=PATH' for name in names)}"
        )
    return dict.fromkeys(names, choice)


def load_variables(
    run: Run,
    path: str | Path,
    network: Any,
    ignore: Collection[str] = (),
    *,
    complete: bool = False,
    name: str = "",
) -> dict[str, Any]:
    """Reads a network's variables from another run, a checkpoint or a published file.

    Args:
      run: `model.fresh_heads` names heads that are not taken from there, because the classes are others.
      path: a run's folder, its checkpoints, one step of them, or a `.params`, `.pth`, `.safetensors` or
        `.npz` file.
      network: the flax module that they must fit; `heads` that the file lacks start fresh.
      ignore: top-level modules that are left out if the file has them, see `other_heads`.
      complete: whether the file must have every head, because nothing will be trained.
      name: of the network, where a checkpoint holds several.

    Raises:
      CheckpointError: the file or folder cannot be read or is of another network.
    """
    place = epath.Path(path).expanduser()
    if not place.exists():
        raise CheckpointError(
            f"{path}: there is no such file or folder; docs/checkpoints.md tells where published weights are"
        )
    if place.is_dir():
        restored = restore(step_folder(place))
        variables = _without(restored.networks.get(name) or restored.variables, ignore)
    else:
        optional = () if complete else network.heads
        variables = load_foreign(
            place, network.state_dict, blocks=network.blocks, allow_missing=optional, ignore=ignore
        )
    if network.with_background and _is_ordinary(variables):
        variables = add_background(variables)
    missing = (head for head in network.heads if all(head not in each for each in variables.values()))
    # Of the heads to start fresh some may be another network's of the run: the classifier's, AffinityNet's.
    heads = {*(set(run.config.model.fresh_heads) & set(network.heads)), *missing}
    if heads and not complete:
        variables = take_fresh(variables, fresh_variables(network, run.config.seed), heads)
    check_against(variables, variable_shapes(network), source=str(place))
    return variables


def _is_ordinary(variables: Variables) -> bool:
    """Whether these are an ordinary classifier's, whose `fc8` has no background, unlike SEAM's and CPN's."""
    return "fc8" in variables["params"] and "f9" not in variables["params"]


def other_heads(network: Any) -> frozenset[str]:
    """Heads that other ResNet-38 networks have and this one lacks; their trunks can still be its start."""
    modules = (module for each in NETWORKS.values() for module in each.modules)
    tops = {module.flax.split("/")[0] for module in modules}
    return frozenset(tops - {"trunk", *network.heads})


def _without(variables: Variables, modules: Collection[str]) -> Variables:
    return {
        collection: {name: value for name, value in inside.items() if name not in modules}
        for collection, inside in variables.items()
    }


def _start(run: Run, network: Any) -> dict[str, Any]:
    start = run.config.init_from
    if start == "scratch":
        return from_scratch(run, network)
    if start == "classifier":
        return load_variables(run, classifier_path(run), network, ignore=other_heads(network))
    if not epath.Path(start).expanduser().exists():
        raise ConfigError(
            f"config.init_from={start!r}: there is no such file or folder; docs/checkpoints.md tells where "
            "published weights are, and --config.init_from=scratch starts without any"
        )
    return load_variables(run, start, network, ignore=other_heads(network))


def from_scratch(run: Run, network: Any) -> dict[str, Any]:
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


def step_folder(path: str | Path) -> epath.Path:
    """The folder of one step, given it, the folder of a network's checkpoints, or a run's folder.

    Raises:
      CheckpointError: there is no checkpoint.
    """
    place = epath.Path(path)
    if (place / "meta").is_dir():
        return place
    with_steps = [(folder, best_step(folder)) for folder in (place, *_results(place)) if steps(folder)]
    if len(with_steps) != 1:
        raise CheckpointError(
            f"{path}: holds no checkpoint; give a run's folder, its checkpoints/<network> or one step"
        )
    folder, step = with_steps[0]
    if step is None:
        raise CheckpointError(f"{folder}: none of its checkpoints is sound")
    return folder / str(step)


def _results(run: epath.Path) -> Iterator[epath.Path]:
    """The folders of checkpoints in a run's folder, but of networks that only refine what the one beside them
    has found: these are meant when they are named, not by the run."""
    for folder in sorted(run.glob("checkpoints/*")):
        if not any(_refines(folder / str(step)) for step in steps(folder)):
            yield folder


def _refines(step: epath.Path) -> bool:
    try:
        return bool(read_meta(step).get("refines"))
    except CheckpointError:  # damaged, of which `best_step` tells
        return False


def _chosen(run: Run, folder: Path, choice: str) -> Restored:
    """The checkpoint that `cam.checkpoint` names; of 'best' and 'last', the first sound one."""
    saved = steps(folder)
    if not saved:
        raise RunError(f"{folder}: nothing is trained yet; run the stage train first (--stages=train,...)")
    if choice in ("best", "last"):
        order = best_first(folder, run.say) if choice == "best" else saved[::-1]
        restored = restore_first(folder, order, run.say)
        if restored is None:
            raise CheckpointError(f"{folder}: no checkpoint is sound; run the stage train again")
        return restored
    if int(choice) not in saved:
        raise RunError(f"config.cam.checkpoint={choice!r}: choose best, last, a path, or a step of {saved}")
    return restore(folder / choice)
