"""What `wave_cam` consists of."""

from ml_collections import ConfigDict

from wsss_jax.errors import ConfigError
from wsss_jax.models.resnet50 import feature_channels
from wsss_jax.runs.context import System
from wsss_jax.stages.common import TRAIN_STAGES
from wsss_jax.systems.cam.classifier import classifier_stage
from wsss_jax.systems.resnet50.options import network_options
from wsss_jax.systems.wave_cam.network import Predictor, WaveClassifier
from wsss_jax.systems.wave_cam.task import WaveCam


def make(config: ConfigDict, num_classes: int) -> WaveCam:
    """The networks of section `resnet50`, and the loss and the maps of section `wave_cam`.

    Raises:
      ConfigError: the waves of a crop are not as many as the features' channels, or accumulation would divide
        the batch whose statistics they need.
    """
    settings, channels = config.wave_cam, feature_channels(config.resnet50.width)
    if settings.wave:
        _check_waves(config, channels)
    return WaveCam(
        network=WaveClassifier(num_classes, **network_options(config)),
        predictor=Predictor(num_classes, channels, wave=settings.wave),
        frozen=tuple(config.resnet50.frozen),
        ce_weight=settings.ce_weight,
        maps=settings.maps,
    )


def _check_waves(config: ConfigDict, channels: int) -> None:
    crop, stride = config.augment.crop, WaveClassifier.stride
    waves = 2 * (-(-crop // stride)) ** 2
    if waves != channels:
        raise ConfigError(
            f"config.augment.crop={crop} with config.resnet50.width={config.resnet50.width:g}: WaveCAM adds "
            f"waves of 2 x (crop / {stride})^2 = {waves} positions to features of {channels} channels, which "
            "must be as many, such as crop 512 at width 1, 256 at 1/4, 128 at 1/16"
        )
    if config.accumulation > 1:
        raise ConfigError(
            f"config.accumulation={config.accumulation}: the wave module takes its statistics over the whole "
            "batch at once; set accumulation=1, and a smaller batch_size or more devices"
        )


SYSTEM = System(
    name="wave_cam",
    title="WaveCAM",
    make=make,
    stages=(classifier_stage("resnet50_cam"), *TRAIN_STAGES),
    map_settings=("wave_cam.maps",),
)
