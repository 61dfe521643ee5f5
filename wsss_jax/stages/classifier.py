"""Stage `classifier`: the ordinary classifier that other methods start from or are judged by, as a run within
the run."""

from ml_collections import ConfigDict

from wsss_jax.runs.context import Run


def classifier_config(config: ConfigDict) -> ConfigDict:
    """The run's own settings with those of section `classifier` in their place, for the method `cam`.

    Its CAMs are for comparison only, so it makes those that are scored and no others.

    A classifier that starts from 'classifier' would start from itself, so `init_from` must be set there too
    then.
    """
    nested = ConfigDict(config.to_dict())
    nested.method = "cam"
    nested.classifier = ConfigDict()
    nested.classifier_from = ""
    nested.refinement = "none"
    nested.dataset.infer_split = nested.dataset.eval_split
    nested.update(config.classifier)
    return nested


def classifier(run: Run) -> None:
    """Trains and evaluates the ordinary classifier, unless `classifier_from` names one."""
    from wsss_jax.runs.runner import run_stages_of

    if run.config.classifier_from:
        return run.say(f"classifier: {run.config.classifier_from}")
    run_stages_of(classifier_config(run.config), run.layout.classifier, ("train", "infer_cam", "eval_cam"))
