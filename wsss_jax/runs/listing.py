"""What there is to choose from: experiments, methods and their stages."""

from wsss_jax import experiments
from wsss_jax.config import defaults
from wsss_jax.systems import TITLES
from wsss_jax.systems.registry import make_method
from wsss_jax.runs.runner import ON_REQUEST, REFINEMENTS


def listing() -> str:
    """All experiments, methods and stages, for people."""
    files = [f"  {name:18} {experiments.summary(name)}" for name in experiments.names()]
    methods = [f"  {method:18} {title}: {' '.join(_stages(method))}" for method, title in TITLES.items()]
    chains = [f"  {name:18} {' '.join(chain)}" for name, chain in REFINEMENTS.items() if chain]
    return "\n".join(
        (
            "experiments, for --config:",
            *files,
            "",
            "methods (config.method) and their stages, for --stages:",
            *methods,
            f"  ({', '.join(ON_REQUEST)}: only where --stages names it)",
            "",
            "stages that can follow (config.refinement):",
            *chains,
        )
    )


def _stages(method: str) -> tuple[str, ...]:
    config = defaults()
    config.method = method
    return make_method(config, num_classes=1).stages
