"""Stage `ir_labels`: what IRN learns from, the parts of CAMs of which two dense CRFs are sure."""

import functools

import jax

from wsss_jax.data.images import palette_png
from wsss_jax.data.lists import split_name
from wsss_jax.files import is_whole, write_bytes
from wsss_jax.refinement.energies import confident_labels, threshold_energies
from wsss_jax.refinement.jobs import Refined
from wsss_jax.refinement.settings import IRN
from wsss_jax.runs.context import INFER_SPLIT, Run, Stage, require_cams
from wsss_jax.runs.provenance import read_provenance, record_provenance
from wsss_jax.stages.crf import check_backend, refine_cams


def ir_labels(run: Run) -> None:
    """Makes the label maps of `dataset.infer_split` that are not there yet; see `confident_labels`.

    Raises:
      RunError: there are no CAMs, the folder holds labels of other settings, or images were refused.
    """
    split, config = run.config.dataset.infer_split, run.config
    thresholds = (config.irn.foreground, config.irn.background)
    cams = read_provenance(require_cams(run).parent)
    made = {**cams, "crf": f"background {thresholds[0]:g} and {thresholds[1]:g}, {IRN.describe()}"}
    record_provenance(run.layout.training_labels(split), made, "training labels")
    own = run.ids(split)[jax.process_index() :: jax.process_count()]
    todo = [image_id for image_id in own if not is_whole(run.layout.training_label(split, image_id))]
    name = f"ir_labels {split_name(split)}"
    if not todo:
        return run.say(f"{name}: done already")
    energies = functools.partial(threshold_energies, thresholds=thresholds)
    refine_cams(run, name, IRN, own, todo, energies, functools.partial(_write, run))


def _write(run: Run, result: Refined) -> None:
    high, low = (maps.planes.argmax(axis=0) for maps in result.maps)
    labels = confident_labels(high, low, result.maps[0].foreground.class_ids)
    path = run.layout.training_label(run.config.dataset.infer_split, result.image_id)
    write_bytes(path, palette_png(labels))


IR_LABELS = Stage(
    name="ir_labels",
    function=ir_labels,
    reads=lambda config: (INFER_SPLIT,),
    check=check_backend,
    all_hosts=True,
    refining=True,
)
