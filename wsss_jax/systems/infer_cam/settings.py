"""Settings of InferCam."""

from wsss_jax.settings import NOT_NEGATIVE, POSITIVE, Check, Section, Setting, numbers, one_of

INFER_CAM = Section(
    "infer_cam",
    "InferCam",
    {
        "network": Setting(
            "cam",
            "The system whose network is asked; 'cam' is psa's classifier",
            one_of("cam", "cse", "sc_cam", "seam"),
        ),
        "jpeg_quality": Setting(
            95,
            "Crops go through a JPEG file of this quality, as between the authors' two programs; with 0 they "
            "do not, which moves the maps of a photograph by 0.004 in the mean, and 0.8 % of the labels at "
            "background 0.3",
            Check("1 to 100, 0 for none", lambda quality: 0 <= quality <= 100),
        ),
        "split_path": Setting(
            "", "Folder with crops that the authors' first program has written, in place of our own"
        ),
        "margins": Setting(
            (10, 20),
            "Pixels that crops reach beyond the centres, in images of one class and of two",
            numbers("(one class, two classes) in pixels", lambda v: len(v) == 2 and min(v) >= 0),
        ),
        "wrap": Setting(
            True, "Starts below 0 count from the end, as in the authors' slices; see [methods.md](methods.md)"
        ),
        "rounds": Setting(5, "A crop is asked at most so often", POSITIVE),
        "erase_from": Setting(0.7, "Score from which a pixel is painted over in the next round", POSITIVE),
        "enough": Setting(
            0.02, "A crop is done once a round paints over less than this share of it anew", NOT_NEGATIVE
        ),
        "max_buckets": Setting(16, "Padded sizes of crops, each a compiled program", POSITIVE),
    },
    free=True,
)
SECTIONS = (INFER_CAM,)
