"""The stages of a system that trains one network and makes maps by it."""

from wsss_jax.stages.evaluate import EVAL_CAM
from wsss_jax.stages.infer import INFER_CAM
from wsss_jax.stages.report import REPORT
from wsss_jax.stages.train import TRAIN

MAP_STAGES = (INFER_CAM, EVAL_CAM, REPORT)
TRAIN_STAGES = (TRAIN, *MAP_STAGES)
