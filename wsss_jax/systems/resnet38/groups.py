"""Optimiser groups of the ResNet-38 methods, by the path of a variable."""

from wsss_jax.task import FROZEN, Path


def resnet38_group(path: Path, frozen_blocks: tuple[str, ...], new_layers: tuple[str, ...]) -> str:
    """Returns 'frozen', 'pretrained' or 'new' for (network, collection, module, ..., leaf).

    Batch norm never learns: not its statistics, and not its scale and bias either (psa switches their
    gradient off). No layer has a bias, so the references' two groups for biases are always empty and have no
    name here.

    Args:
      path: of the variable.
      frozen_blocks: blocks of the trunk that keep their pretrained weights, ('conv1a', 'b2', 'b2_1', 'b2_2')
        in every published method.
      new_layers: layers without pretrained weights, which learn 10 times faster.
    """
    _, collection, *modules, _ = path
    if collection != "params" or any(name.startswith("bn") for name in modules):
        return FROZEN
    if modules[0] == "trunk" and modules[1] in frozen_blocks:
        return FROZEN
    return "new" if modules[0] in new_layers else "pretrained"
