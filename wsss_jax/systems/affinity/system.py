"""What `affinity` consists of, which makes no CAMs but refines those of another run, and the same refinement
of any system's own."""

from wsss_jax.runs.context import System
from wsss_jax.stages.crf import CRF, EVAL_CRF
from wsss_jax.stages.eval_pseudo import EVAL_PSEUDO
from wsss_jax.stages.evaluate import EVAL_CAM
from wsss_jax.stages.report import REPORT
from wsss_jax.systems.affinity.make import affinity_net
from wsss_jax.systems.affinity.train import TRAIN_AFFINITY
from wsss_jax.systems.affinity.walk import RANDOM_WALK

SYSTEM = System(
    name="affinity",
    title="AffinityNet",
    make=lambda config, num_classes: affinity_net(config),
    stages=(EVAL_CAM, REPORT),
)
REFINEMENT = (CRF, EVAL_CRF, TRAIN_AFFINITY, RANDOM_WALK, EVAL_PSEUDO)
