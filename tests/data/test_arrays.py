import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from wsss_jax.data import arrays
from wsss_jax.data.arrays import DAMAGE, read_npz


def test_arrays_come_in_the_order_asked_for(tmp_path):
    keys, cam = np.array([3, 1], np.int32), np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    np.savez(tmp_path / "a.npz", keys=keys, cam=cam)
    np.savez_compressed(tmp_path / "b.npz", keys=keys, cam=cam)
    for name in ("a.npz", "b.npz"):
        found = read_npz(tmp_path / name, "cam", "keys")
        np.testing.assert_array_equal(found[0], cam)
        np.testing.assert_array_equal(found[1], keys)


def test_pickles_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", keys=np.array([{}], object))
    with pytest.raises(ValueError, match="holds pickled objects"):
        read_npz(tmp_path / "a.npz", "keys")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damage_raises_what_is_announced(tmp_path, save):
    path = tmp_path / "a.npz"
    save(path, keys=np.arange(50))
    whole = path.read_bytes()
    with pytest.raises(DAMAGE):
        read_npz(path, "cam")
    for place in range(0, len(whole), 3):
        path.write_bytes(whole[:place])
        with pytest.raises(DAMAGE):
            read_npz(path, "keys")
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            (found,) = read_npz(path, "keys")
        except DAMAGE:
            continue
        np.testing.assert_array_equal(found, np.arange(50))  # the damage hit nothing that is read


def test_two_threads_never_parse_at_once(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", keys=np.arange(3))
    original, inside, most = arrays._HEADERS[1, 0], [], []

    def slow(stream):
        inside.append(1)
        time.sleep(0.001)  # lets the others come in
        most.append(len(inside))
        inside.pop()
        return original(stream)

    monkeypatch.setitem(arrays._HEADERS, (1, 0), slow)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: read_npz(tmp_path / "a.npz", "keys"), range(50)))
    assert most == [1] * 50


def test_a_file_that_is_no_archive(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"no archive")
    with pytest.raises(zipfile.BadZipFile):
        read_npz(tmp_path / "a.npz", "keys")
