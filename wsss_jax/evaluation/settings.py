"""Settings of scores."""

from wsss_jax.settings import NOT_NEGATIVE, Section, Setting, numbers, one_of, rising

_ABSENT = (
    "What a class counts in the mean that does not occur: 'zero' 0, as in OC-CSE and CPN; 'ignore' nothing "
    "if it is in neither truth nor prediction, as in IRN; 'truth' nothing if it is not in the truth, as in "
    "SC-CAM"
)
_RISING = numbers("one or more rising background scores", rising)
EVAL = Section(
    "eval",
    "Scores of CAMs",
    free=True,
    thresholds=Setting(tuple(i / 100 for i in range(10, 40)), "Background scores of the curve", _RISING),
    fixed_threshold=Setting(0.2, "Background score told beside the best; SC-CAM's is 0.15", NOT_NEGATIVE),
    threshold_from=Setting("", "Metrics JSON of another split, whose best one is applied to this split"),
    absent_classes=Setting("zero", _ABSENT, one_of("zero", "ignore", "truth")),
    every_epochs=Setting(1, "How often in training, on `dataset.eval_split`; 0: never", NOT_NEGATIVE),
)
SECTIONS = (EVAL,)
