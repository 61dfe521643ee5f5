"""Other people's files of maps: what is read, and what is refused without running a line of it."""

import contextlib
import os
import pickle

import numpy as np
import pytest

from wsss_jax.data.class_maps import ClassMaps, read_maps, read_reduced, reduced_maps, write_maps, write_npy
from wsss_jax.errors import DataError

SIZE = (5, 7)
RNG = np.random.default_rng(0)
A, B = (RNG.random(SIZE).astype(np.float32) for _ in range(2))


def save(folder, content, name="a.npy"):
    np.save(folder / name, np.array(content, dtype=object), allow_pickle=True)
    return folder / name


def read(path):
    return read_maps(path, "a", SIZE)


def refusal(path):
    with pytest.raises(DataError) as error:
        read(path)
    assert "\n" not in str(error.value) and "'a'" in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("content", "keys", "planes"),
    [
        ({14: A, 2: B}, [2, 14], [B, A]),
        ({np.int64(3): A.astype(np.float64)}, [3], [A]),
        ({0: np.asfortranarray(A), 1: B.astype(">f4")}, [0, 1], [A, B]),
        ({4: A.astype(np.float16)}, [4], [A.astype(np.float16)]),
        ({"keys": np.array([1, 6]), "high_res": np.stack([A, B])}, [1, 6], [A, B]),
        ({}, [], np.zeros((0, *SIZE))),
    ],
)
@pytest.mark.parametrize("protocol", [2, 3, 4])  # those that `numpy.save` has ever written
def test_pickled_dictionaries_of_the_references(tmp_path, content, keys, planes, protocol):
    path = save(tmp_path, {})
    header = path.read_bytes()[:128]
    path.write_bytes(header + pickle.dumps(np.array(content, dtype=object), protocol))
    maps = read(path)
    assert maps.class_ids.dtype == np.int32 and maps.planes.dtype == np.float32
    np.testing.assert_array_equal(maps.class_ids, keys)
    np.testing.assert_array_equal(maps.planes, np.asarray(planes, np.float32).reshape(-1, *SIZE))


def test_npz_files_of_ours(tmp_path):
    np.savez(tmp_path / "a.npz", keys=np.array([5, 1]), cam=np.stack([A, B]))
    maps = read(tmp_path / "a.npz")
    np.testing.assert_array_equal(maps.class_ids, [1, 5])
    np.testing.assert_array_equal(maps.planes, [B, A])


def test_code_in_a_pickle_is_named_and_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    assert "'posix' 'mkdir'" in refusal(save(tmp_path, {1: Evil()}))
    assert not (tmp_path / "made").exists()


def test_every_truncation_is_refused(tmp_path):
    whole = save(tmp_path, {1: A, 3: B}).read_bytes()
    for length in range(0, len(whole) - 1, 7):
        (tmp_path / "t.npy").write_bytes(whole[:length])
        assert "t.npy" in refusal(tmp_path / "t.npy")


def test_every_changed_byte_gives_maps_or_a_refusal(tmp_path):
    """Whatever a damaged file says, the only error is DataError."""
    whole = bytearray(save(tmp_path, {1: A}).read_bytes())
    for place in range(len(whole)):
        for value in (0, 255, whole[place] ^ 1):
            damaged = whole.copy()
            damaged[place] = value
            (tmp_path / "t.npy").write_bytes(damaged)
            with contextlib.suppress(DataError):
                assert read(tmp_path / "t.npy").planes.shape[1:] == SIZE


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({1: A[:4]}, "7x4 pixels, but the image is 7x5"),
        ({1: A, 2: A[:4]}, "is damaged or holds no maps"),
        ({-1: A}, "different classes, counted from 0"),
        ({"dog": A}, "is damaged or holds no maps"),
        ({1: A * np.nan}, "no finite scores"),
        ({1: (A * 9).astype(np.uint8)}, "uint8 values that are no finite scores"),
        ({1: A * 20}, r"at most 1: divide each by its maximum"),
        ({1: "text"}, "is damaged or holds no maps"),
        ({1: [0.5]}, "is damaged or holds no maps"),
        ([1, 2], "no pickled dictionary"),
        ({"keys": np.array([1, 1]), "high_res": np.stack([A, B])}, "different classes"),
        ({"keys": np.array([1]), "high_res": np.stack([A, B])}, "expected K and K, H, W"),
    ],
)
def test_what_cannot_be_scores_is_told(tmp_path, content, message):
    assert message in refusal(save(tmp_path, content))


def test_files_of_another_kind(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 and no more")
    np.savez(tmp_path / "b.npz", scores=A)
    np.save(tmp_path / "c.npy", A)
    np.savez(tmp_path / "e.npz", keys=np.array([1]), cam=np.full((1, *SIZE), "x"))
    np.savez(tmp_path / "f.npz", keys=np.array([1]), cam=np.full((1, *SIZE), 1e300))
    assert "no finite scores" in refusal(tmp_path / "e.npz")
    assert "no finite scores" in refusal(tmp_path / "f.npz")
    assert "damaged or holds no maps" in refusal(tmp_path / "a.npz")
    assert "damaged or holds no maps" in refusal(tmp_path / "b.npz")
    assert "no pickled dictionary" in refusal(tmp_path / "c.npy")
    assert "is missing" in refusal(tmp_path / "d.npz")


def test_classes_beyond_the_list(tmp_path):
    path = save(tmp_path, {3: A})
    assert read_maps(path, "a", SIZE, num_classes=4).class_ids.tolist() == [3]
    with pytest.raises(DataError, match=r"image 'a': .*a.npy has the class 3, but classes are 0 to 2"):
        read_maps(path, "a", SIZE, num_classes=3)


@pytest.mark.parametrize("storage", ["float32", "float16"])
@pytest.mark.parametrize("background", [False, True])
def test_what_is_written_is_read(tmp_path, storage, background):
    maps = ClassMaps(np.array([-1 if background else 2, 14], np.int32), np.stack([A, B]))
    write_maps(tmp_path / "a.npz", maps, storage)
    with np.load(tmp_path / "a.npz") as file:  # as other people's scripts do
        assert file["scores" if background else "cam"].dtype == storage
    found = read_maps(tmp_path / "a.npz", "a", SIZE, background=background)
    assert found.class_ids.tolist() == maps.class_ids.tolist() and found.planes.dtype == np.float32
    np.testing.assert_array_equal(found.planes, maps.planes.astype(storage))
    with pytest.raises(DataError, match="is damaged or holds no"):
        read_maps(tmp_path / "a.npz", "a", SIZE, background=not background)


def test_a_stages_own_file_names_the_stage(tmp_path):
    path = tmp_path / "a.npz"
    with pytest.raises(DataError, match=r"a.npz is missing; run the stage crf first"):
        read_maps(path, "a", SIZE, background=True, stage="crf")
    np.savez(path, keys=np.array([0, 3]), scores=np.stack([A, B]))
    with pytest.raises(DataError, match=r"\[0, 3\]; expected the background's key -1 first; delete it"):
        read_maps(path, "a", SIZE, background=True, stage="crf")
    np.savez(path, keys=np.array([-1, 3]), scores=np.stack([A, B]))
    with pytest.raises(DataError, match=r"7x5 pixels, but .* is 5x7 .*; delete it and run the stage crf"):
        read_maps(path, "a", (7, 5), background=True, stage="crf")


def test_labels_are_the_best_class_above_the_threshold():
    maps = ClassMaps(np.array([3, 9], np.int32), np.float32([[[0.5, 0.2, 0.1]], [[0.5, 0.3, 0.1]]]))
    assert maps.labels(0.25).tolist() == [[4, 10, 0]]  # of equal planes the first
    assert maps.labels(0.3).tolist() == [[4, 0, 0]]  # background against an equal score
    assert not ClassMaps(maps.class_ids[:0], maps.planes[:0]).labels(0).any()


def test_reduced_maps_are_read_where_a_file_has_them(tmp_path):
    """Of ours and of IRN's, whose `cam` they are."""
    full, small = (
        ClassMaps(np.array([1, 5], np.int32), np.stack([A, B])),
        np.float32([[[1, 2]], [[3, 4]]]) / 4,
    )
    reduced = ClassMaps(full.class_ids, np.concatenate([small, small / 2], 1))  # 5 x 7 pixels become 2 x 2
    write_maps(tmp_path / "a.npz", full, "float16", reduced)
    write_npy(tmp_path / "a.npy", full, reduced)
    for name in ("a.npz", "a.npy"):
        found = read_reduced(tmp_path / name, "a", SIZE)
        np.testing.assert_array_equal(found.class_ids, [1, 5])
        np.testing.assert_array_equal(found.planes, reduced.planes)
    np.testing.assert_array_equal(read(tmp_path / "a.npy").planes, full.planes)
    np.testing.assert_array_equal(read(tmp_path / "a.npz").planes, full.planes.astype(np.float16))


def test_reduced_maps_of_files_without_them_by_hand(tmp_path):
    """Half-pixel: of 5 rows, 2 are at 0.75 and 3.25; of 7 columns at 1.25 and 4.75."""
    plane = np.arange(35, dtype=np.float32).reshape(5, 7) / 34
    maps = ClassMaps(np.array([3], np.int32), plane[None])
    at = lambda y, x: (7 * y + x) / 34  # noqa: E731
    wanted = np.array([[at(0.75, 1.25), at(0.75, 4.75)], [at(3.25, 1.25), at(3.25, 4.75)]])
    np.testing.assert_allclose(reduced_maps(maps).planes[0], wanted / (wanted.max() + 1e-5), rtol=1e-5)
    write_maps(tmp_path / "a.npz", maps)
    np.testing.assert_array_equal(
        read_reduced(tmp_path / "a.npz", "a", SIZE).planes, reduced_maps(maps).planes
    )
    nothing = ClassMaps(np.zeros(0, np.int32), np.zeros((0, *SIZE), np.float32))
    assert reduced_maps(nothing).planes.shape == (0, 2, 2)


def test_damaged_reduced_maps_are_told_of(tmp_path):
    maps, path = ClassMaps(np.array([3], np.int32), A[None]), tmp_path / "a.npz"
    write_maps(path, maps, reduced=ClassMaps(maps.class_ids, np.ones((1, 3, 2), np.float32)))
    with pytest.raises(DataError, match=r"reduced maps of image 'a'.*holds maps of 2x3 pixels"):
        read_reduced(path, "a", SIZE)
    raw = bytearray(path.read_bytes())
    raw[raw.rindex(np.ones((1, 3, 2), np.float32).tobytes())] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DataError, match="is damaged; delete it and run the stage infer_cam again"):
        read_reduced(path, "a", SIZE, stage="infer_cam")
