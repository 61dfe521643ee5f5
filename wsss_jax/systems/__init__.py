"""The systems: one folder each. Importing this loads no JAX, so that settings are known without it."""

# What reports call the methods of `config.method`.
TITLES = {
    "cam": "ordinary classifier",
    "cse": "OC-CSE",
    "sc_cam": "SC-CAM",
    "cpn": "CPN",
    "infer_cam": "InferCam",
    "seam": "SEAM's network",
    "affinity": "AffinityNet",
}
