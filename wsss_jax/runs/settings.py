"""Settings that belong to a run as a whole."""

from wsss_jax.settings import Section, Setting, one_of

RUN = Section(
    "",
    "",
    {
        "method": Setting("cam", "The system; `--list` names them"),
        "refinement": Setting(
            "none",
            "What follows `eval_cam` where no `--stages` are given",
            one_of("none", "crf", "random_walk"),
            free=True,
        ),
        "seed": Setting(0, "Of weights, order and augmentation"),
        "precision": Setting(
            "float32",
            "'float32' exact, 'fast' as the chip prefers, 'bfloat16' activations",
            one_of("float32", "fast", "bfloat16"),
        ),
        "classifier_from": Setting(
            "",
            "Checkpoint of the ordinary classifier for systems that need one; '': the stage `classifier` "
            "trains it",
        ),
        "compilation_cache": Setting(
            "~/.cache/wsss_jax", "Folder of compiled programs; '' switches the cache off", free=True
        ),
        "distributed": Setting(
            False, "Several hosts: each starts the same command, see [scaling.md](scaling.md)", free=True
        ),
        "cpu_keep_memory": Setting(
            True, "On CPUs: freed memory stays with the process, see [scaling.md](scaling.md)", free=True
        ),
    },
)
CLASSIFIER = Section(
    "classifier",
    "What differs where the stage `classifier` trains the ordinary classifier: in a file of `configs/`, any "
    "of the settings here once more, such as `classifier.total_epochs`",
    {},
)
SECTIONS = (RUN, CLASSIFIER)
