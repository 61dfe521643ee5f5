"""Settings of data set, augmentation and loader."""

from wsss_jax.settings import NOT_NEGATIVE, POSITIVE, Section, Setting, numbers, one_of

_SIDES = numbers("(smallest, largest) side in pixels", lambda v: len(v) == 2 and 0 < v[0] <= v[1])
_INFER_SPLIT = (
    "The split of the CAMs and of all that is made from them; 'auto' is `eval_split`, and with "
    "`refinement` random_walk or irn `train_split`, on whose CAMs AffinityNet or IRN then trains, and of "
    "which `eval_split` must be a part"
)
SECTIONS = (
    Section(
        "dataset",
        "Which images, see [data.md](data.md); a split's name, or the path of a file with one id a line",
        name=Setting("voc12", "The data set", one_of("voc12", "coco14", "tfds", "folder", "shapes")),
        root=Setting("", "The folder that it lies in", free=True),
        train_split=Setting("train_aug", "What is trained on"),
        infer_split=Setting("auto", _INFER_SPLIT, free=True),
        eval_split=Setting("train", "What is scored", free=True),
        seg_split=Setting("val", "What the segmentation network is tested on", free=True),
    ),
    Section(
        "dataset.shapes",
        "The images that the data set `shapes` draws",
        num_train=Setting(800, "Images of the split `train`"),
        num_val=Setting(200, "Images of the split `val`"),
        image_size=Setting(128, "Side in pixels"),
        seed=Setting(0, "Of the drawing"),
    ),
    Section(
        "augment",
        "How a training image becomes a crop",
        resize_long=Setting((256, 448), "Long side in pixels, drawn uniformly", _SIDES),
        crop=Setting(384, "Side of the crop in pixels", POSITIVE),
        flip=Setting(True, "Whether half of the images are mirrored"),
        jitter=Setting((0.3, 0.3, 0.3, 0.1), "Brightness, contrast, saturation, hue"),
    ),
    Section(
        "loader",
        "Who decodes and augments images",
        free=True,
        workers=Setting(4, "Processes; 0: threads of the program itself", NOT_NEGATIVE),
        threads=Setting(8, "Threads", POSITIVE),
    ),
)
