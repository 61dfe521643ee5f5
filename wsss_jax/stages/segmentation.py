"""The stages from pseudo masks to the score of a segmentation network."""

from wsss_jax.stages.eval_seg import EVAL_SEG
from wsss_jax.stages.infer_seg import INFER_SEG
from wsss_jax.stages.train_seg import TRAIN_SEG

STAGES = (TRAIN_SEG, INFER_SEG, EVAL_SEG)
