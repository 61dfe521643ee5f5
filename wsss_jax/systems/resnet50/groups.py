"""Optimiser groups of the systems on ResNet-50, by the path of a variable."""

from wsss_jax.task import FROZEN, Path


def resnet50_group(path: Path, frozen: tuple[str, ...], new_layers: tuple[str, ...]) -> str:
    """Returns 'frozen', 'pretrained' or 'new' for (network, collection, module, ..., leaf).

    Batch norms keep their statistics, but their scale and bias learn, with weight decay as everything else.

    Args:
      path: of the variable.
      frozen: modules of the trunk that keep their pretrained weights: the stem ('conv1', 'bn1'), in IRN's
        classifier layer1 and layer2 too, where its code cuts the gradient.
      new_layers: layers without pretrained weights, which may learn faster.
    """
    _, collection, *modules, _ = path
    if collection != "params":
        return FROZEN
    if modules[0] == "trunk" and modules[1].partition("_")[0] in frozen:
        return FROZEN
    return "new" if modules[0] in new_layers else "pretrained"
