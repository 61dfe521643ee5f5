"""Settings of training: how long and from where, optimizer, checkpoints, log."""

import re

from wsss_jax.settings import NOT_NEGATIVE, POSITIVE, Check, Section, Setting


def profiled_steps(text: str) -> tuple[int, int] | None:
    """START and STOP of 'START:STOP'; None if the text is something else."""
    match = re.fullmatch(r"(\d+):(\d+)", text)
    return (int(match[1]), int(match[2])) if match and int(match[1]) < int(match[2]) else None


SECTIONS = (
    Section(
        "",
        "",
        batch_size=Setting(8, "Images per step over all devices and accumulation steps", POSITIVE),
        accumulation=Setting(1, "Passes per step; they do not change the result", POSITIVE),
        total_epochs=Setting(15, "Epochs", POSITIVE),
        init_from=Setting("scratch", "'scratch', 'classifier': the ordinary one's weights, or a path"),
    ),
    Section(
        "optimizer",
        "SGD with polynomial decay",
        learning_rate=Setting(0.01, "Of pretrained weights", POSITIVE),
        new_layers=Setting(10.0, "Times the learning rate, of weights that start fresh"),
        momentum=Setting(5e-4, "Not 0.9: the references give SGD weight decay's value for it", NOT_NEGATIVE),
        weight_decay=Setting(5e-4, "Of weights, not of biases", NOT_NEGATIVE),
        power=Setting(0.9, "Of the polynomial decay"),
    ),
    Section(
        "checkpoint",
        "When training is saved",
        free=True,
        every_steps=Setting(0, "Besides the end of each epoch; 0: no more", NOT_NEGATIVE),
    ),
    Section(
        "log",
        "What training tells",
        free=True,
        every_steps=Setting(50, "From one line to the next, or a twentieth of a shorter training", POSITIVE),
        tensorboard=Setting(False, "For TensorBoard, too; needs the extra `tensorboard`"),
        profile=Setting(
            "",
            "START:STOP: the steps of which a profile is taken, into the folder of the log",
            Check(
                "START:STOP, such as 100:110, or nothing",
                lambda text: not text or profiled_steps(text) is not None,
            ),
        ),
    ),
)
