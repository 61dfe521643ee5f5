"""What there is to choose from: experiments, systems and their stages."""

from wsss_jax import experiments
from wsss_jax.runs.context import Stage, System
from wsss_jax.runs.registry import Registry


def listing(registry: Registry) -> str:
    """All experiments, systems and stages, for people."""
    systems: list[System] = [registry.system(name) for name in registry.systems]
    chains = {name: registry.refinement(name) for name in registry.refinements}
    asked = dict.fromkeys(stage.name for each in systems for stage in each.stages if stage.on_request)
    return "\n".join(
        (
            "experiments, for --config:",
            *(f"  {name:18} {experiments.summary(name)}" for name in experiments.names()),
            "",
            "methods (config.method) and their stages, for --stages:",
            *(f"  {each.name:18} {each.title}: {_names(each.stages)}" for each in systems),
            f"  ({', '.join(asked)}: only where --stages names it)",
            "",
            "stages that can follow (config.refinement):",
            *(f"  {name:18} {_names(chain)}" for name, chain in chains.items() if chain),
        )
    )


def _names(stages: tuple[Stage, ...]) -> str:
    return " ".join(stage.name for stage in stages)
