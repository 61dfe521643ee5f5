"""Settings of training: how long and from where, optimizer, checkpoints, log."""

from wsss_jax.settings import NOT_NEGATIVE, POSITIVE, Section, Setting

TRAINING = Section(
    "",
    "",
    {
        "batch_size": Setting(8, "Images per step over all devices and accumulation steps", POSITIVE),
        "accumulation": Setting(
            1, "Forward and backward passes per step; the result does not depend on it", POSITIVE
        ),
        "total_epochs": Setting(15, "Epochs", POSITIVE),
        "init_from": Setting(
            "scratch",
            "'scratch', 'classifier' (the weights of the ordinary classifier), or a checkpoint's path",
        ),
    },
)
OPTIMIZER = Section(
    "optimizer",
    "SGD with polynomial decay",
    {
        "learning_rate": Setting(0.01, "Of pretrained weights", POSITIVE),
        "new_layers": Setting(10.0, "Times the learning rate, of weights that start fresh"),
        "momentum": Setting(
            5e-4, "Not 0.9: the references hand weight decay's value to SGD as momentum", NOT_NEGATIVE
        ),
        "weight_decay": Setting(5e-4, "Of all weights that learn but biases", NOT_NEGATIVE),
        "power": Setting(0.9, "Of the polynomial decay"),
    },
)
CHECKPOINT = Section(
    "checkpoint",
    "When training is saved",
    {"every_steps": Setting(0, "Besides the end of each epoch; 0: no more", NOT_NEGATIVE)},
    free=True,
)
LOG = Section(
    "log",
    "What training tells",
    {
        "every_steps": Setting(50, "Steps between two lines, or a twentieth of a shorter training", POSITIVE),
        "tensorboard": Setting(False, "Also for TensorBoard; needs the extra `tensorboard`"),
    },
    free=True,
)
SECTIONS = (TRAINING, OPTIMIZER, CHECKPOINT, LOG)
