"""What `infer_cam` consists of."""

from ml_collections import ConfigDict

from wsss_jax.runs.context import System
from wsss_jax.settings import made_of
from wsss_jax.stages.report import REPORT
from wsss_jax.systems.cam.system import SYSTEM as CAM
from wsss_jax.systems.cse.system import SYSTEM as CSE
from wsss_jax.systems.infer_cam.base_classifier import BASE_CLASSIFIER, EVAL_BOTH
from wsss_jax.systems.infer_cam.response import INFER_RESPONSE
from wsss_jax.systems.infer_cam.rule import InferCam
from wsss_jax.systems.infer_cam.settings import ErasingRule, SplitRule
from wsss_jax.systems.infer_cam.split import SPLIT
from wsss_jax.systems.sc_cam.system import SYSTEM as SC_CAM
from wsss_jax.systems.seam.system import SYSTEM as SEAM

_BASES = {system.name: system for system in (CAM, CSE, SC_CAM, SEAM)}  # whose networks can be asked


def make(config: ConfigDict, num_classes: int) -> InferCam:
    """The rules of section `infer_cam` over the network that it names."""
    base, settings = ConfigDict(config.to_dict()), config.infer_cam
    base.method = settings.network
    return InferCam(
        base=_BASES[settings.network].make(base, num_classes),
        split=made_of(SplitRule, settings),
        erasing=made_of(ErasingRule, settings),
    )


SYSTEM = System(
    name="infer_cam",
    title="InferCam",
    make=make,
    stages=(BASE_CLASSIFIER, SPLIT, INFER_RESPONSE, EVAL_BOTH, REPORT),
)
