"""Settings of scores."""

from wsss_jax.settings import NOT_NEGATIVE, Section, Setting, numbers, one_of, rising

EVAL = Section(
    "eval",
    "Scores of CAMs",
    {
        "thresholds": Setting(
            tuple(i / 100 for i in range(10, 40)),
            "Background scores of the curve",
            numbers("one or more rising background scores", rising),
        ),
        "fixed_threshold": Setting(
            0.2,
            "The background score that is told beside the best; psa's, SC-CAM's is 0.15",
            NOT_NEGATIVE,
        ),
        "threshold_from": Setting(
            "", "Metrics JSON of another split, whose best background score is applied to this one"
        ),
        "absent_classes": Setting(
            "zero",
            "What a class counts in the mean that does not occur: 'zero' 0, as in OC-CSE and CPN; 'ignore' "
            "nothing if it is in neither truth nor prediction, as in IRN; 'truth' nothing if it is not in "
            "the truth, as in SC-CAM",
            one_of("zero", "ignore", "truth"),
        ),
        "every_epochs": Setting(
            1,
            "Epochs from one evaluation on `dataset.eval_split` to the next in training; 0: never",
            NOT_NEGATIVE,
        ),
    },
    free=True,
)
SECTIONS = (EVAL,)
