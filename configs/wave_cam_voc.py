"""`wave_cam`: WaveCAM, multi-stage, on PASCAL VOC 2012.

R. Xu et al.: "Wave-like Class Activation Map with Representation Fusion for Weakly Supervised Semantic
Segmentation", IEEE Transactions on Multimedia 2023.

    python -m wsss_jax.main --config=configs/wave_cam_voc.py --config.dataset.root=VOCdevkit/VOC2012

Stage `classifier` trains the ordinary classifier on ResNet-50 (3305 steps), whose maps are the baseline in
the report, and stage `train` goes on from it with the predictor (2644 steps). With a trained classifier, such
as ReCAM's or WaveCAM's own: --config.classifier_from=res50_cam.pth. From weights of both networks, nothing is
trained: --stages=infer_cam,eval_cam,report --config.cam.checkpoint=
wavecam_net=res50_wavecam_4.pth,wavecam_predictor=wavecam_predictor_4.pth

Its authors publish code and no weights. Their paper's scores are not quoted here, for they have been checked
neither against the paper nor with this program; that takes the full data set and the ImageNet weights.

Needs: the devkit with SegmentationClassAug, and torchvision's weights/resnet50-19c8e357.pth to start from
(docs/checkpoints.md).
"""

from ml_collections import ConfigDict

from wsss_jax.config import defaults
from wsss_jax.systems.irn.settings import NUMBERS


def get_config() -> ConfigDict:
    """Returns the settings; those not set here are the published ones, docs/configuration.md."""
    c = defaults()
    c.method = "wave_cam"
    c.batch_size = 16
    c.total_epochs = 4
    c.init_from = "classifier"

    c.dataset.name = "voc12"
    c.dataset.root = "VOCdevkit/VOC2012"
    c.dataset.train_split = "train_aug"
    c.dataset.eval_split = "train"

    c.augment.resize_long = (320, 640)
    c.augment.crop = 512
    c.augment.jitter = (0.0, 0.0, 0.0, 0.0)
    c.optimizer.learning_rate = 5e-5  # of the network; the predictor's is 5e-4
    c.optimizer.new_layers = 10.0
    c.optimizer.weight_decay = 1e-4  # of biases, and of norms' scales and biases too
    c.optimizer.momentum = 1e-4  # weight decay's value, as in every reference; see training/optimizer.py
    c.cam.scales = (1.0, 0.5, 1.5, 2.0)
    c.eval.fixed_threshold = 0.21
    c.eval.absent_classes = "ignore"
    c.eval.every_epochs = 0  # the last epoch is the result
    c.update_from_flattened_dict(NUMBERS["wavecam"])  # with --config.refinement=irn

    c.classifier = ConfigDict(
        {
            "init_from": "weights/resnet50-19c8e357.pth",
            "total_epochs": 5,  # of ReCAM, on which WaveCAM's code is built, and whose own default is 0
            "optimizer": {"learning_rate": 0.1},
            "eval": {"fixed_threshold": 0.15},  # IRN's for these maps, and WaveCAM's on COCO
        }
    )
    return c
