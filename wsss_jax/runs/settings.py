"""Settings that belong to a run as a whole."""

from wsss_jax.settings import Section, Setting, one_of

_REFINEMENTS = one_of("none", "crf", "random_walk", "irn")
_PRECISIONS = one_of("float32", "fast", "bfloat16")
SECTIONS = (
    Section(
        "",
        "",
        method=Setting("cam", "The system; `--list` names them"),
        refinement=Setting("none", "What follows `eval_cam` without `--stages`", _REFINEMENTS, free=True),
        seed=Setting(0, "Of weights, order and augmentation"),
        precision=Setting("float32", "'fast' as the chip prefers, 'bfloat16' activations", _PRECISIONS),
        classifier_from=Setting("", "The ordinary classifier, if the system needs it; '' trains it"),
        compilation_cache=Setting("~/.cache/wsss_jax", "Folder of compiled programs; '': none", free=True),
        distributed=Setting(False, "Several hosts; see [scaling.md](scaling.md)", free=True),
        cpu_keep_memory=Setting(True, "Keeps freed memory on CPUs; see [scaling.md](scaling.md)", free=True),
    ),
    Section(
        "classifier",
        "What differs where the stage `classifier` trains the ordinary classifier: in a file of `configs/`, "
        "any of the settings here once more, such as `classifier.total_epochs`",
    ),
)
