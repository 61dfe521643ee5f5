import itertools
import os
import signal
import subprocess

import numpy as np
import pytest

from tests.helpers import jobs
from tests.helpers.scripts import command
from tests.helpers.voc import make_voc
from wsss_jax.data import make_source
from wsss_jax.data.loader import BatchLoader, ClassificationSample, sample_order, steps_per_epoch
from wsss_jax.data.transforms import Recipe, augment
from wsss_jax.errors import ConfigError, DataError

RECIPE = Recipe(crop=32, resize_long=(24, 48))
TEN = [str(i) for i in range(10)]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return make_source("voc12", make_voc(tmp_path_factory.mktemp("voc"), num_train=7))


def take(loader, count):
    with loader:
        return list(itertools.islice(loader, count))


def numbers(count, **options):
    """Batches of `BatchLoader` over TEN, without images."""
    return take(BatchLoader(jobs.Numbers(), TEN, **{"batch_size": 3, "seed": 0, **options}), count)


def images(source, count, **options):
    options = {"batch_size": 3, "seed": 0, **options}
    return take(BatchLoader(ClassificationSample(source, RECIPE), source.ids("train"), **options), count)


def assert_same(left, right):
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])


def test_batch_contents(source):
    ids = source.ids("train")
    for batch in images(source, 3):
        shapes = {key: (value.shape, value.dtype) for key, value in batch.items()}
        assert shapes == {
            "image": ((3, 32, 32, 3), np.uint8),
            "box": ((3, 4), np.int32),
            "labels": ((3, 20), np.float32),
            "index": ((3,), np.int32),
        }
        for row, index in enumerate(batch["index"]):
            np.testing.assert_array_equal(batch["labels"][row], source.labels(ids[index]))
            top, bottom, left, right = batch["box"][row]
            outside = np.ones((32, 32), bool)
            outside[top:bottom, left:right] = False
            assert not batch["image"][row][outside].any()
            assert batch["image"][row][~outside].std() > 10


def test_a_sample_is_the_augmented_picture(source):
    image_id = source.ids("train")[0]
    sample = ClassificationSample(source, RECIPE)(image_id, np.random.default_rng(5))
    image, box = augment(source.image(image_id), np.random.default_rng(5), RECIPE)
    np.testing.assert_array_equal(sample["image"], image)
    np.testing.assert_array_equal(sample["box"], box)


def test_every_epoch_is_a_new_permutation_cut_to_whole_batches():
    loader = BatchLoader(jobs.Numbers(), TEN, batch_size=3, seed=0)
    assert loader.steps_per_epoch == 3
    epochs = np.stack([batch["index"] for batch in take(loader, 60)]).reshape(20, 9)
    assert all(len(set(epoch)) == 9 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 20
    left_out = [set(range(10)) - set(epoch) for epoch in epochs]
    assert len(set().union(*left_out)) > 4  # not always the same image


def test_positions_are_uniform():
    first = [batches[0]["index"][0] for batches in (numbers(1, seed=seed) for seed in range(60))]
    assert np.bincount(first, minlength=10).max() < 18  # 6 expected


def test_random_numbers_differ_between_samples_epochs_and_seeds():
    values = np.concatenate([batch["value"] for batch in numbers(30) + numbers(30, seed=1)])
    assert len(np.unique(values)) == values.size == 2 * 30 * 3 * 2
    assert abs(values.mean() - 0.5) < 0.05


def test_index_belongs_to_the_sample():
    for batch in numbers(4):
        np.testing.assert_array_equal(batch["id"], batch["index"])


@pytest.mark.parametrize(
    "options", [{"threads": 1}, {"threads": 4}, {"prefetch": 1}, {"workers": 1}, {"workers": 2}]
)
def test_the_stream_does_not_depend_on_who_makes_it(source, options):
    assert_same(images(source, 5, **options), images(source, 5))


def test_the_order_is_that_of_seed_and_epoch_alone():
    expected = [
        np.random.default_rng(np.random.SeedSequence(5, spawn_key=(epoch,))).permutation(7)[:6].tolist()
        for epoch in range(2)
    ]
    (first, second), places = expected, [(0, i) for i in expected[0]] + [(1, i) for i in expected[1]]
    assert sorted(first) != first != second
    assert list(itertools.islice(sample_order(7, 3, seed=5), 12)) == places
    assert list(itertools.islice(sample_order(7, 3, seed=5, start_batch=3), 3)) == places[9:]
    of_second_host = sample_order(7, 1, seed=5, process_index=1, process_count=2)
    assert list(itertools.islice(of_second_host, 6)) == places[1::2]


def test_a_samples_random_numbers_are_those_of_its_image_and_epoch():
    """Whatever the batch size: of two runs, the same images can be compared."""
    by_image = [
        {
            int(i): tuple(v)
            for batch in numbers(10 // size, batch_size=size)
            for i, v in zip(batch["id"], batch["value"], strict=True)
        }
        for size in (2, 5)
    ]
    assert by_image[0] == by_image[1]
    assert len(set(by_image[0].values())) == 10


@pytest.mark.parametrize("start", [1, 3, 8])
def test_starting_later_equals_skipping(source, start):
    expected = numbers(12)[start:]
    assert_same(numbers(12 - start, start_batch=start), expected)
    assert_same(images(source, 2, start_batch=start), images(source, start + 2)[start:])


def test_position_resumes():
    loader = BatchLoader(jobs.Numbers(), TEN, batch_size=3, seed=0, start_batch=2)
    before = [next(loader), next(loader)]
    assert loader.position == 4
    loader.close()
    assert_same(before + numbers(3, start_batch=loader.position), numbers(5, start_batch=2))


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_share_out_the_very_batches_of_one_host(hosts):
    parts = [numbers(7, batch_size=4 // hosts, process_index=p, process_count=hosts) for p in range(hosts)]
    together = [
        {key: np.concatenate([part[key] for part in rows]) for key in rows[0]}
        for rows in zip(*parts, strict=True)
    ]
    assert_same(together, numbers(7, batch_size=4))
    assert all(len(set(batch["index"])) == 4 for batch in together)


def test_workers_import_no_jax_even_if_the_main_script_does(tmp_path):
    root = make_voc(tmp_path)
    script = tmp_path / "script.py"  # no __main__ guard on purpose
    script.write_text(
        "import os, jax\n"
        "from tests.helpers import jobs\n"
        "from wsss_jax.data import make_source\n"
        "from wsss_jax.data.loader import BatchLoader, ClassificationSample\n"
        "from wsss_jax.data.transforms import Recipe\n"
        f"source = make_source('voc12', {str(root)!r})\n"
        "make = jobs.WithModules(ClassificationSample(source, Recipe(crop=32)))\n"
        "loader = BatchLoader(make, source.ids('train'), batch_size=2, seed=0, workers=2)\n"
        "batch = next(loader)\n"
        "print(batch['heavy'].tolist(), os.getpid() in batch['pid'])\n"
    )
    out = run_script(script)
    assert (out.stdout, out.stderr) == ("[0, 0] False\n", "")


def run_script(path):
    """Runs a script whose main module imports what it likes and which parses no command line."""
    code = f"import runpy; runpy.run_path({str(path)!r}, run_name='__main__')"
    return subprocess.run(command(code), capture_output=True, text=True, timeout=120)


def test_a_bad_file_is_named_and_closes_the_loader(tmp_path):
    root = make_voc(tmp_path)
    (root / "JPEGImages" / "2007_000003.jpg").write_bytes(b"\xff\xd8")
    source = make_source("voc12", root)
    for workers in (0, 1):
        make = ClassificationSample(source, RECIPE)
        loader = BatchLoader(make, source.ids("train"), batch_size=4, seed=0, workers=workers)
        with pytest.raises(DataError, match=r"image '2007_000003'.*cannot be decoded"):
            next(loader)
        with pytest.raises(ValueError, match="closed"):
            next(loader)


def test_a_worker_that_dies_names_the_image(source):
    loader = BatchLoader(jobs.DiesAt("4"), TEN, batch_size=5, seed=0, workers=1)
    with loader, pytest.raises(DataError, match=r"^image '4': the loader worker .* killed by SIGKILL"):
        for _ in range(2):
            next(loader)


def test_interrupting_prints_nothing_of_the_workers(tmp_path):
    code = (
        "from tests.helpers import jobs\n"
        "from wsss_jax.data.loader import BatchLoader\n"
        "try:\n"
        "    with BatchLoader(jobs.Numbers(), ['1', '2', '3'], batch_size=2, seed=0, workers=2) as loader:\n"
        "        for i, _ in enumerate(loader):\n"
        "            if i == 3: print('running', flush=True)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted')\n"
    )
    process = subprocess.Popen(command(code), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=60)
    finally:
        process.kill()  # one that does not end would take a core for as long as the machine runs
    assert (out, errors, process.returncode) == ("interrupted\n", "", 0)


@pytest.mark.parametrize("workers", [0, 2])
def test_leaving_without_closing_is_silent(tmp_path, workers):
    script = tmp_path / "script.py"
    script.write_text(
        "from tests.helpers import jobs\n"
        "from wsss_jax.data.loader import BatchLoader\n"
        f"loader = BatchLoader(jobs.Numbers(), list('12345'), batch_size=2, seed=0, workers={workers})\n"
        "print(next(loader)['index'].shape)\n"
    )
    out = run_script(script)
    assert (out.stdout, out.stderr, out.returncode) == ("(2,)\n", "", 0)


def test_dropping_a_loader_ends_its_workers():
    loader = BatchLoader(jobs.WithModules(jobs.Numbers()), TEN, batch_size=4, seed=0, workers=2)
    workers = set(next(loader)["pid"].tolist())
    assert workers and all(os.path.exists(f"/proc/{pid}") for pid in workers)
    del loader
    assert not any(os.path.exists(f"/proc/{pid}") for pid in workers)


def test_steps_per_epoch():
    assert steps_per_epoch(10582, 16) == 661
    assert steps_per_epoch(16, 16) == 1
    with pytest.raises(DataError, match="15 images do not fill one batch of 16"):
        steps_per_epoch(15, 16)
    with pytest.raises(ConfigError, match="batch_size is 0"):
        steps_per_epoch(15, 0)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"batch_size": 6, "process_count": 2}, DataError, "10 images do not fill one batch of 12"),
        ({"process_index": 1}, ValueError, "process_index 1"),
        ({"start_batch": -1}, ValueError, "start_batch is -1"),
        ({"seed": -1}, ConfigError, "seed is -1"),
        ({"seed": 2**32}, ConfigError, "seed is 4294967296"),
        ({"workers": -1}, ValueError, "workers"),
        ({"prefetch": 0}, ValueError, "prefetch is 0"),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        numbers(1, **options)


def grouped(count, hosts=1, **options):
    loaders = [
        BatchLoader(
            jobs.Numbers(), TEN[:7], batch_size=6 // hosts, seed=0, kept_group=3, process_index=host,
            process_count=hosts, **options,
        )
        for host in range(hosts)
    ]  # fmt: skip
    return [np.concatenate([next(loader)["index"] for loader in loaders]).tolist() for _ in range(count)]


def test_incomplete_groups_are_kept():
    """Epochs of 7 are groups of 3, 3 and 1, of which a batch takes two, also of two epochs (DeepLab-v2)."""
    rows = np.reshape(grouped(3), (6, 3))
    for epoch in (rows[:3], rows[3:]):
        assert sorted(epoch.ravel().tolist()) == [-1, -1, 0, 1, 2, 3, 4, 5, 6]
        assert epoch[2, 0] >= 0 and epoch[2, 1:].tolist() == [-1, -1]
    assert rows[:3].tolist() != rows[3:].tolist()
    assert grouped(1, start_batch=2) == grouped(3)[2:]
    assert grouped(3, hosts=2) == grouped(3)
