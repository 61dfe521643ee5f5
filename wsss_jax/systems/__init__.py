"""The systems: a folder and a line here for each. Importing this loads no JAX."""

from wsss_jax.runs.registry import Registry

SYSTEMS = Registry(
    systems={
        "cam": "wsss_jax.systems.cam.system:SYSTEM",
        "cse": "wsss_jax.systems.cse.system:SYSTEM",
        "sc_cam": "wsss_jax.systems.sc_cam.system:SYSTEM",
        "cpn": "wsss_jax.systems.cpn.system:SYSTEM",
        "infer_cam": "wsss_jax.systems.infer_cam.system:SYSTEM",
        "resnet50_cam": "wsss_jax.systems.resnet50_cam.system:SYSTEM",
        "wave_cam": "wsss_jax.systems.wave_cam.system:SYSTEM",
        "seam": "wsss_jax.systems.seam.system:SYSTEM",
        "affinity": "wsss_jax.systems.affinity.system:SYSTEM",
        "irn": "wsss_jax.systems.irn.system:SYSTEM",
        "deeplab_v2": "wsss_jax.systems.deeplab_v2.system:SYSTEM",
    },
    refinements={
        "none": (),
        "crf": "wsss_jax.stages.crf:REFINEMENT",
        "random_walk": "wsss_jax.systems.affinity.system:REFINEMENT",
        "irn": "wsss_jax.systems.irn.system:REFINEMENT",
    },
    following="wsss_jax.stages.segmentation:STAGES",
)
