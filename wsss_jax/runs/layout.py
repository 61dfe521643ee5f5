"""Where a run keeps what: the only place that knows the names of its folders and files."""

from dataclasses import dataclass
from pathlib import Path

from wsss_jax.data.lists import split_name
from wsss_jax.files import file_name


@dataclass(frozen=True)
class Layout:
    """Paths inside a run's folder. A split given as a text file goes by the file's stem."""

    workdir: Path
    outer: Path | None = None  # folder of the run around this one, if they share a classifier
    cams_from: Path | None = None  # folder of the run whose CAMs this one refines

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.workdir / "config.json"

    @property
    def manifest(self) -> Path:
        """Versions and devices, and every start: command, commit, date, duration, end; see `manifest`."""
        return self.workdir / "manifest.json"

    def holds_results(self) -> bool:
        """Whether a stage has made anything here: what only tells of the run does not count, nor do runs
        within it, whose folders their own configurations bind, nor what a kill left half-written."""
        own = (p for p in self.workdir.glob("*") if p not in (self.config, self.manifest, self.logs))
        return any(holds_results(p) for p in own if not (p / self.config.name).exists())

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
        """A run within the run: the classifier that it starts from or is compared with."""
        return (self.outer or self.workdir) / "classifier"

    def checkpoints(self, network: str) -> Path:
        """Folder of a network's checkpoints, one folder a step."""
        return self.workdir / "checkpoints" / network

    def cams(self, split: str) -> Path:
        """Folder of a split's class activation maps."""
        return (self.cams_from or self.workdir) / "cam" / split_name(split)

    def cam(self, split: str, image_id: str) -> Path:
        """keys int32[K] (0-based classes) and cam float32[K, H, W], at the image's size."""
        return self.cams(split) / f"{image_id}.npz"

    def cam_npy(self, split: str, image_id: str) -> Path:
        """The same as the references' pickled {class: map} dictionary."""
        return self.workdir / "cam_npy" / split_name(split) / f"{image_id}.npy"

    def heat_map(self, split: str, image_id: str, class_name: str) -> Path:
        """An image of one class's map."""
        return self.workdir / "heat" / split_name(split) / f"{image_id}_{file_name(class_name)}.png"

    def crfs(self, split: str, alpha: float) -> Path:
        """Folder of a split's scores after a dense CRF with background (1 - max)^alpha."""
        return self.workdir / "crf" / split_name(split) / alpha_name(alpha)

    def crf(self, split: str, alpha: float, image_id: str) -> Path:
        """keys int32[K + 1] (-1 background, then 0-based classes), scores float32[K + 1, H, W] of a CRF."""
        return self.crfs(split, alpha) / f"{image_id}.npz"

    def training_labels(self, split: str) -> Path:
        """Folder of the label maps that a network learns boundaries from."""
        return self.workdir / "ir_label" / split_name(split)

    def training_label(self, split: str, image_id: str) -> Path:
        """A label map: palette PNG, 0 background, class index + 1, 255 unknown."""
        return self.training_labels(split) / f"{image_id}.png"

    def propagated(self, split: str) -> Path:
        """Folder of a split's scores after the random walk."""
        return self.workdir / "pseudo_scores" / split_name(split)

    def pseudo_scores(self, split: str, image_id: str) -> Path:
        """keys int32[K + 1] (-1 background, then 0-based classes), scores float32[K + 1, h, w] of cells of
        `stride` pixels, after the random walk."""
        return self.propagated(split) / f"{image_id}.npz"

    def pseudos(self, split: str) -> Path:
        """Folder of a split's pseudo masks."""
        return self.workdir / "pseudo" / split_name(split)

    def pseudo(self, split: str, image_id: str) -> Path:
        """A pseudo mask: palette PNG, 0 background, class index + 1, 255 void."""
        return self.pseudos(split) / f"{image_id}.png"

    def seg_scores(self, split: str, image_id: str) -> Path:
        """keys int32[C + 1] (-1 background, then all classes), scores float32[C + 1, h, w]: the segmentation
        network's logits at its own size."""
        return self.workdir / "seg_scores" / split_name(split) / f"{image_id}.npz"

    def segs(self, split: str, crf: bool = False) -> Path:
        """Folder of a split's label maps by the segmentation network, perhaps after a dense CRF."""
        return self.workdir / ("seg_crf" if crf else "seg") / split_name(split)

    def seg(self, split: str, image_id: str, crf: bool = False) -> Path:
        """A label map of the segmentation network: palette PNG, 0 background, class index + 1."""
        return self.segs(split, crf) / f"{image_id}.png"

    @property
    def all_metrics(self) -> Path:
        """Folder of the scores of all stages."""
        return self.workdir / "metrics"

    def metrics(self, stage: str, split: str) -> Path:
        """Scores of a stage."""
        return self.all_metrics / f"{stage}_{split_name(split)}.json"


def holds_results(path: Path) -> bool:
    """Whether a path is or holds a file other than a hidden or half-written one and settings.json, which only
    tells how the files beside it are made."""
    if path.name == "settings.json" or path.name.startswith(".") or ".orbax-checkpoint-tmp" in path.name:
        return False
    return path.is_file() or any(holds_results(inside) for inside in path.glob("*"))


def alpha_name(alpha: float) -> str:
    """The exponent of a CRF's background score in names of folders and stages, such as alpha_04."""
    return f"alpha_{alpha:02g}"
