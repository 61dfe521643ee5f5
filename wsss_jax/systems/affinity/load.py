"""AffinityNet without a run."""

import json
from pathlib import Path

from etils import epath

from wsss_jax.config import defaults
from wsss_jax.errors import CheckpointError
from wsss_jax.stages.networks import step_folder
from wsss_jax.systems.affinity.make import affinity_net
from wsss_jax.systems.affinity.task import Affinity
from wsss_jax.task import Variables
from wsss_jax.training.checkpoints import digest, restore
from wsss_jax.training.initial import variable_shapes
from wsss_jax.weights import check_against, load_foreign


def load_affinity(path: str | Path) -> tuple[Affinity, Variables, str]:
    """AffinityNet, its weights and their SHA-256, without a run.

    Args:
      path: psa's `res38_aff.pth` or another file of the published network; or what `train_affinity` saved, a
        run's `checkpoints/affinity` or one step of it.

    Raises:
      CheckpointError: the file or folder cannot be read or is of another network.
    """
    place, config = epath.Path(path).expanduser(), defaults()
    if not place.exists():
        raise CheckpointError(f"{path}: there is no such file or folder of AffinityNet's weights")
    if place.is_dir():
        restored = restore(step_folder(place))
        with config.unlocked():
            config.update(json.loads(restored.meta["config"]))
        method, variables = affinity_net(config), restored.variables
    else:
        method = affinity_net(config)
        variables = load_foreign(place, method.network.state_dict)
    check_against(variables, variable_shapes(method.network), source=str(place))
    return method, variables, digest(variables)
