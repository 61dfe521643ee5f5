"""Stage `classifier`: the ordinary classifier that other systems start from or are judged by, as a run within
the run."""

import functools
from collections.abc import Sequence

from ml_collections import ConfigDict

from wsss_jax.runs.context import Run, Stage, SubRun
from wsss_jax.runs.layout import Layout


def classifier_config(config: ConfigDict, method: str = "cam") -> ConfigDict:
    """The run's own settings with those of section `classifier` in their place, for the system `method`.

    Its CAMs are for comparison only, so it makes those that are scored and no others.

    A classifier that starts from 'classifier' would start from itself, so `init_from` must be set there too
    then.
    """
    nested = ConfigDict(config.to_dict())
    nested.method = method
    nested.classifier = ConfigDict()
    nested.classifier_from = ""
    nested.refinement = "none"
    nested.dataset.infer_split = nested.dataset.eval_split
    nested.update(config.classifier)
    return nested


def classifier_runs(run: Run, method: str = "cam") -> Sequence[SubRun]:
    """Trains and evaluates the ordinary classifier, unless `classifier_from` names one."""
    if run.config.classifier_from:
        return ()
    inside = run.within(Layout(run.layout.classifier), classifier_config(run.config, method))
    return (SubRun(inside, ("train", "infer_cam", "eval_cam"), section="classifier"),)


def classifier(run: Run) -> None:
    """Says which it is."""
    run.say(f"classifier: {run.config.classifier_from or run.layout.classifier}")


def classifier_stage(method: str) -> Stage:
    """The stage, with the system whose classifier it is."""
    return Stage(
        name="classifier",
        function=classifier,
        inner=functools.partial(classifier_runs, method=method),
        weights=lambda run: {"classifier_from": run.config.classifier_from},
    )


CLASSIFIER = classifier_stage("cam")
