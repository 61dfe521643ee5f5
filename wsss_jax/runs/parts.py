"""Which stages a run has, and which of them run."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from wsss_jax.errors import ConfigError
from wsss_jax.runs.context import Facts, Run, Stage


class Part(NamedTuple):
    """A run and those of its stages that will run."""

    run: Run
    stages: tuple[Stage, ...]
    section: str  # of the outermost configuration, 'classifier.' say, where its own settings come from
    facts: Mapping[str, Facts] = {}  # of each image of `dataset.infer_split`, once they are checked


def parts(run: Run, stages: Sequence[Stage], section: str = "") -> Iterator[Part]:
    """The run, and after it the runs within it."""
    yield Part(run, tuple(stages), section)
    for stage in stages:
        for inner in stage.inner(run):
            within = f"{section}{inner.section}." if inner.section else section
            yield from parts(inner.run, checked_stages(inner.run, inner.stages), within)


def known_stages(run: Run) -> list[Stage]:
    """The system's stages, those that can refine any system's maps or go on with them, and what comes last,
    in this order."""
    own, registry = run.system.stages, run.registry
    chains = (*map(registry.refinement, registry.refinements), registry.on_request())
    # A stage of several chains comes after those before it in each of them.
    following = {stage.name: stage for stage in reversed([stage for chain in chains for stage in chain])}
    stages = {stage.name: stage for stage in (*_first(own), *reversed(following.values()))}
    return [*stages.values(), *(stage for stage in own if stage.last)]


def checked_stages(run: Run, names: Sequence[str] | None) -> tuple[Stage, ...]:
    """The wanted stages in their order, by default the system's and those of `config.refinement`; ConfigError
    names one that there is not."""
    known = known_stages(run)
    if names is None:
        chosen = [*_first(run.system.stages), *run.registry.refinement(run.config.refinement)]
        names = [stage.name for stage in known if stage.last or (stage in chosen and not stage.on_request)]
    for name in names:
        if name not in [stage.name for stage in known]:
            raise ConfigError(
                f"--stages={name}: the method {run.config.method} has no such stage; {_hint(name, known)}"
            )
    return tuple(stage for stage in known if stage.name in names)


def _first(stages: Sequence[Stage]) -> list[Stage]:
    return [stage for stage in stages if not stage.last]


def _hint(name: str, known: Sequence[Stage]) -> str:
    names = [stage.name for stage in known]
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]}?" if near else f"it has {', '.join(names)}"
