"""From a checkpoint of a run, or a bare file of weights, to a method, its weights and its classes' names."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wsss_jax import weights
from wsss_jax.data.voc import CLASSES as VOC_CLASSES
from wsss_jax.errors import CheckpointError, ConfigError
from wsss_jax.systems import SYSTEMS
from wsss_jax.weights.loading import own
from wsss_jax.weights.mapping import find_network

# JAX is imported inside functions, so that the command's `--help` does not take seconds.


@dataclass(frozen=True, kw_only=True)
class BareFile:
    """What a file of nothing but weights does not say of itself.

    Attributes:
      network: its state dict, one of a system's `published`; None to tell it by the tensors' names.
      class_names: its classes in their order; None for VOC's, if there are 20.
      dilations: of its trunk, see `models.resnet38`; None for the published ones.
    """

    network: str | None = None
    class_names: Sequence[str] | None = None
    dilations: Sequence[int] | None = None


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A method or a segmentation network's task, the weights, and what people should know of them."""

    method: Any
    variables: dict[str, Any]
    classes: tuple[str, ...]
    about: str
    config: Any


def load(
    checkpoint: str | os.PathLike[str], bare: BareFile, folder_of: Callable[[Any], Any] | None = None
) -> Loaded:
    """Loads a checkpoint, and sets JAX's precision and compilation cache as its configuration says.

    Args:
      checkpoint: a run's folder, its `checkpoints/<network>` or one step of them, of which the best step is
        taken; a folder that `wsss_jax.convert` wrote; or a `.pth`, `.params`, `.safetensors` or `.npz` file.
      bare: for the last two.
      folder_of: chooses the folder of a step in a run's; by default that of the network that makes its maps.

    Raises:
      CheckpointError: there is none, it is damaged, or of a network that makes no maps.
      ConfigError: the classes of a bare file have no names, or what a run itself says was given.
    """
    from etils import epath

    path = epath.Path(checkpoint).expanduser()  # also gs://...
    if not path.exists():
        raise CheckpointError(
            f"{path}: there is no such checkpoint; give a run's folder or a file of weights"
        )
    if not path.is_dir():
        return _from_file(path, bare)

    from wsss_jax.stages.networks import step_folder
    from wsss_jax.training.checkpoints import restore

    folder = (folder_of or step_folder)(path)
    restored = restore(folder)
    if "config" not in restored.meta and "source" in restored.meta:  # converted from a file of weights
        return _from_weights(restored.variables, str(folder), bare)
    if bare != BareFile():
        raise ConfigError(
            f"{folder} says itself which network and classes it has; --network, --class_names and "
            "--dilations are for files of nothing but weights"
        )
    return _from_training(restored, folder)


def _from_training(restored: Any, folder: Any) -> Loaded:
    config, classes, network = _description(restored.meta, folder)
    method = _made(config, classes)
    if network != method.name:
        raise CheckpointError(f"{folder}: holds {network!r}, but {config.method} trains {method.name!r}")
    _check(method, restored.networks, str(folder))
    about = f"{network} of the method {config.method}, step {restored.step}, {len(classes)} classes"
    about += f", started from {restored.meta['start']}" if "start" in restored.meta else ""
    return Loaded(method=method, variables=restored.networks, classes=classes, about=about, config=config)


def _from_file(path: Any, bare: BareFile) -> Loaded:
    tensors = weights.read_tensors(path)
    network = bare.network or weights.detect_network(tensors, source=str(path))
    blocks = weights.trunk_blocks(weights.torch_names(tensors, str(path)))
    variables = weights.to_variables(tensors, network, blocks=blocks, source=str(path))
    return _from_weights(own(variables, np.float32), str(path), bare)


def _from_weights(variables: dict[str, Any], source: str, bare: BareFile) -> Loaded:
    """Tells the method and its sizes by names and shapes of the weights."""
    from wsss_jax.config import defaults

    network = bare.network or weights.detect_variables(variables, source=source)
    systems = {name: system for system in map(SYSTEMS.system, SYSTEMS.systems) for name in system.published}
    if network not in systems:
        raise CheckpointError(
            f"{source}: {network} makes no maps of classes; networks that do are {', '.join(systems)}"
        )
    config, system = defaults(), systems[network]
    config.method = system.name
    if bare.dilations is not None:
        config.model.dilations = tuple(bare.dilations)
    count = system.published[network](config, variables["params"])
    classes = _class_names(count, bare.class_names, source)
    method = _made(config, classes)
    _check(method, {method.name: variables}, source)
    about = f"{network} from {source}, {count} classes{_guesses(network, bare, systems)}"
    variables = {method.name: variables}
    return Loaded(method=method, variables=variables, classes=classes, about=about, config=config)


def _guesses(network: str, bare: BareFile, systems: Mapping[str, Any]) -> str:
    """What nothing in the file says, in words.

    A network of another system may have the same names, and only the user knows which of them a file is.
    """
    guessed = [] if bare.class_names is not None else ["named as VOC's"]
    modules = find_network(network).modules
    for name, system in systems.items() if bare.network is None else ():
        if name != network and find_network(name).modules == modules:
            guessed.append(f"could as well be {name} of {system.title}: --network tells")
    return "".join(f"; {text}" for text in guessed)


def _class_names(count: int, given: Sequence[str] | None, source: str) -> tuple[str, ...]:
    if count < 1:
        raise CheckpointError(f"{source}: its head has no classes")
    if given is None and count == len(VOC_CLASSES):
        return VOC_CLASSES
    if given is None:
        raise ConfigError(
            f"{source} has {count} classes without names; name them in its order: --class_names"
        )
    if len(given) != count or len(set(given)) != count:
        raise ConfigError(f"--class_names: {len(set(given))} different names, {source} needs {count}")
    return tuple(given)


def _made(config: Any, classes: Sequence[str]) -> Any:
    """The method."""
    from wsss_jax.runs.devices import configure_jax

    configure_jax(config)
    return SYSTEMS.system(config.method).make(config, len(classes))


def _check(method: Any, networks: Mapping[str, Any], source: str) -> None:
    """CheckpointError if the weights are not those of the method's networks."""
    from wsss_jax.training.initial import variable_shapes

    for name, variables in networks.items():
        if name not in method.networks:
            raise CheckpointError(f"{source}: holds the network {name!r}, which {method.name!r} has not")
        weights.check_against(variables, variable_shapes(method.networks[name]), source=source)


def _description(meta: Mapping[str, Any], folder: Any) -> tuple[Any, tuple[str, ...], str]:
    """Configuration, classes and network of a checkpoint.

    Settings that this version has and that of the checkpoint had not get their defaults.
    """
    from wsss_jax.config import defaults, validate

    config = defaults()
    try:
        with config.unlocked():
            config.update(json.loads(meta["config"]))
        validate(config)
        config.method = meta.get("network", config.method)  # a segmentation network may be of another system
        return config, tuple(meta["classes"]), meta["task"]
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # whatever the JSON holds
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise CheckpointError(
            f"{folder}: its description cannot be used ({reason}); "
            "give a checkpoint that wsss_jax.main has saved"
        ) from error
