"""What `irn` consists of, which makes no CAMs but refines those of another run, and the same refinement of
any system's own."""

from wsss_jax.runs.context import System
from wsss_jax.stages.eval_pseudo import EVAL_PSEUDO
from wsss_jax.stages.evaluate import EVAL_CAM
from wsss_jax.stages.report import REPORT
from wsss_jax.systems.irn.ir_labels import IR_LABELS
from wsss_jax.systems.irn.make import inter_pixel
from wsss_jax.systems.irn.train import TRAIN_IRN
from wsss_jax.systems.irn.walk import IRN_WALK

SYSTEM = System(
    name="irn",
    title="IRN",
    make=lambda config, num_classes: inter_pixel(config),
    stages=(EVAL_CAM, REPORT),
)
REFINEMENT = (IR_LABELS, TRAIN_IRN, IRN_WALK, EVAL_PSEUDO)
