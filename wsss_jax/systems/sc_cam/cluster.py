"""Stage `cluster`: the subcategories of each class, by k-means over the features of its images."""

import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from wsss_jax.data.images import open_image
from wsss_jax.data.lists import sha256
from wsss_jax.data.pool import map_ordered
from wsss_jax.data.source import label_matrix
from wsss_jax.files import write_bytes
from wsss_jax.interrupt import stop_here
from wsss_jax.progress import Progress
from wsss_jax.report import Figure, contact_sheet
from wsss_jax.runs.context import TRAIN_SPLIT, Run, Stage
from wsss_jax.runs.provenance import check_provenance
from wsss_jax.systems.sc_cam.features import features_provenance
from wsss_jax.systems.sc_cam.files import sub_labels_file, subcategory_file
from wsss_jax.systems.sc_cam.subcategories import SubLabels, load_features, load_sub_labels

_NEAREST = 6  # images that the image shows of each subcategory


class Clusters(NamedTuple):
    """The subcategories of one class."""

    members: np.ndarray  # int[M], which images of the list have the class, ascending
    assigned: np.ndarray  # int[M], the subcategory of each, from 0
    distances: np.ndarray  # float[M], from each to the centre of its subcategory


def cluster(run: Run) -> None:
    """Finds the subcategories of each class, writes the images' sub-labels, and draws the subcategories.

    Images keep the order of the list. (SC-CAM sorts them by their lowest class, which training, drawing at
    random, cannot tell; and it drops images without a class, which are no part of a data set here.)

    Raises:
      RunError: features are missing, or sub-labels of another list, k or classifier are there.
    """
    split, settings = run.config.dataset.train_split, run.config.sc_cam
    ids, path = run.ids(split), sub_labels_file(run.layout, split)
    provenance = {
        "list_sha256": sha256(ids),
        "k": settings.k,
        "restarts": settings.restarts,
        "weights_sha256": features_provenance(run)["weights_sha256"],
    }
    if path.exists():
        check_provenance(path, "subcategories", load_sub_labels(path).provenance, provenance)
        return run.say(f"cluster {split}: done already")
    features, labels = load_features(run, ids), label_matrix(run.source, ids)
    sub_labels = np.zeros((len(ids), labels.shape[1] * settings.k), np.uint8)
    line = Progress("cluster", labels.shape[1], unit="classes")
    for c, found in enumerate(cluster_classes(features, labels, settings.k, settings.restarts)):
        sub_labels[found.members, c * settings.k + found.assigned] = 1
        _describe(run, c, found)
        _draw(run, ids, c, found)
        line.update(c + 1)
        stop_here("cluster writes its result at the end only")
    line.end()
    SubLabels(sub_labels, provenance).save(path)


def cluster_classes(features: np.ndarray, labels: np.ndarray, k: int, restarts: int) -> Iterator[Clusters]:
    """Yields the clusters of each class in turn: features float32[N, D], labels float32[N, C]."""
    for column in labels.T:
        members = np.flatnonzero(column)
        yield Clusters(members, *k_means(features[members], k, restarts))


def k_means(features: np.ndarray, k: int, restarts: int) -> tuple[np.ndarray, np.ndarray]:
    """Clusters float32[M, D] as SC-CAM does: scikit-learn's k-means, random_state 0, at most 300 iterations.

    Args:
      features: of the images that have a class.
      k: clusters; as many as there are images where these are fewer, for which SC-CAM's program fails.
      restarts: n_init, of which the best counts.

    Returns:
      The cluster of each image, int[M], and its distance from the cluster's centre, float[M].
    """
    if not len(features):
        return np.zeros(0, np.int64), np.zeros(0)
    from sklearn.cluster import KMeans  # here, since it takes a second to import
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    count = min(k, len(features))
    # One thread: sums do not depend on the number of cores then, and problems this small gain little by more.
    with threadpool_limits(1), warnings.catch_warnings():
        # Of equal features; `_describe` tells how many clusters there are.
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = KMeans(count, random_state=0, max_iter=300, n_init=restarts).fit(features)
    return found.labels_, np.linalg.norm(features - found.cluster_centers_[found.labels_], axis=1)


def _describe(run: Run, c: int, found: Clusters) -> None:
    """Tells of a class that has fewer subcategories than the others."""
    count, k = len(np.unique(found.assigned)), run.config.sc_cam.k
    if count < k:
        name, images = run.source.classes[c], len(found.members)
        run.say(f"cluster: {name} has {images} image(s) and so {count} subcategories instead of {k}")


def _draw(run: Run, ids: tuple[str, ...], c: int, found: Clusters) -> None:
    """Writes the class's image: a row for each subcategory, the images nearest to its centre first."""
    rows = []
    for number in np.unique(found.assigned):
        inside = np.flatnonzero(found.assigned == number)
        nearest = inside[np.argsort(found.distances[inside], kind="stable")[:_NEAREST]]
        rows.append((f"{number + 1}: {len(inside)} images", [ids[found.members[i]] for i in nearest]))
    if not rows:
        return
    wanted = [image_id for _, row in rows for image_id in row]
    images = map_ordered(run.source.image, wanted, threads=run.config.loader.threads)
    sheet = contact_sheet([(name, [next(images) for _ in row]) for name, row in rows])
    write_bytes(subcategory_file(run.layout, run.source.classes[c]), sheet)


def drawn(run: Run) -> Iterator[Figure]:
    """The images that there are of the subcategories."""
    for name in run.source.classes:
        path = subcategory_file(run.layout, name)
        if path.exists():
            yield Figure(
                title=f"Subcategories of {name}",
                caption="Each with its number of training images, and those nearest to its centre.",
                image=np.asarray(open_image(path).convert("RGB")),
            )


CLUSTER = Stage(name="cluster", function=cluster, reads=lambda config: (TRAIN_SPLIT,), figures=drawn)
