"""Where a run keeps what: the only place that knows the names of its folders and files."""

from dataclasses import dataclass
from pathlib import Path

from wsss_jax.data.lists import split_name


@dataclass(frozen=True)
class Layout:
    """Paths inside a run's folder. A split given as a text file goes by the file's stem."""

    workdir: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.workdir / "config.json"

    @property
    def manifest(self) -> Path:
        """Versions, devices, hashes of lists and weights."""
        return self.workdir / "manifest.json"

    @property
    def logs(self) -> Path:
        """train.jsonl, log.txt and TensorBoard's events."""
        return self.workdir / "logs"

    @property
    def report(self) -> Path:
        """The report's one file."""
        return self.workdir / "report" / "index.html"

    @property
    def classifier(self) -> Path:
        """A run within the run: the ordinary classifier that class-specific erasing needs."""
        return self.workdir / "classifier"

    def checkpoints(self, network: str) -> Path:
        """Folder of a network's checkpoints, one folder a step."""
        return self.workdir / "checkpoints" / network

    def cams(self, split: str) -> Path:
        """Folder of a split's class activation maps."""
        return self.workdir / "cam" / split_name(split)

    def cam(self, split: str, image_id: str) -> Path:
        """keys int32[K] (0-based classes) and cam float32[K, H, W], at the picture's size."""
        return self.cams(split) / f"{image_id}.npz"

    def cam_npy(self, split: str, image_id: str) -> Path:
        """The same as the references' pickled {class: map} dictionary."""
        return self.workdir / "cam_npy" / split_name(split) / f"{image_id}.npy"

    def metrics(self, stage: str, split: str) -> Path:
        """Scores of a stage."""
        return self.workdir / "metrics" / f"{stage}_{split_name(split)}.json"
