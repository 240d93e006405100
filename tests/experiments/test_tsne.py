"""The map: principal components, t-SNE, the pictures, a new selfie in a finished map."""

from __future__ import annotations

import importlib.util
import os
import shutil

import cv2
import numpy as np
import polars as pl
import pytest

import testlib
from selfie.common.errors import SelfieError
from selfie.experiments import pca, tsne
from selfie.experiments.features import Features, Records, export


@pytest.fixture(scope="module")
def features(tiny_run, tmp_path_factory) -> Features:
    """Exported features of tiny_run's training selfies."""
    return export(tiny_run, Records(tiny_run.database("train")), tmp_path_factory.mktemp("features"))


@pytest.fixture(scope="module")
def tiny_map(features, tmp_path_factory) -> tsne.Map:
    """The map of 64 selfies, bright and dark ones."""
    if importlib.util.find_spec("openTSNE") is None:
        testlib.skip("opentsne", "pip install -r requirements-map.txt")
    out = tmp_path_factory.mktemp("map")
    tsne.make(features, out, perplexity=10, seed=1)
    return tsne.load(out)


def test_pca_equals_the_full_decomposition(tmp_path):
    """Against numpy's SVD of all the data: same variances, same subspace; memory-mapped, in pieces."""
    generator = np.random.default_rng(0)
    data = (generator.normal(size=(3000, 40)) * 0.85 ** np.arange(40)) @ generator.normal(size=(40, 100)) + 3
    np.save(tmp_path / "data.npy", data.astype(np.float32))
    fitted = pca.fit(np.load(tmp_path / "data.npy", mmap_mode="r"), 10)
    _, singular, directions = np.linalg.svd(data - data.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(fitted.variances, singular[:10] ** 2 / len(data), rtol=1e-4)
    np.testing.assert_allclose(fitted.total, data.var(axis=0).sum(), rtol=1e-5)
    np.testing.assert_allclose(np.abs((directions[:10] @ fitted.components).diagonal()), 1, atol=1e-3)
    np.testing.assert_allclose(
        np.abs(fitted.project(data.astype(np.float32))),
        np.abs((data - data.mean(axis=0)) @ directions[:10].T),
        atol=0.05,
    )


def test_features_that_are_not_finite_are_one_line():
    """What a net that diverged says of a picture."""
    with pytest.raises(SelfieError, match="some features are no finite numbers"):
        pca.fit(np.full((64, 8), np.nan, np.float32))


def test_what_is_alike_lies_close_and_the_seed_decides(tiny_map, features):
    """Neighbours in the map score alike; the same seed gives the same map, another seed another one."""
    places, scores = tiny_map.places, tiny_map.table["score"].to_numpy()
    apart = np.linalg.norm(places[:, None] - places[None], axis=2) + np.diag(np.full(len(places), np.inf))
    assert np.abs(scores - scores[apart.argmin(axis=1)]).mean() < 0.5 * np.abs(scores[:, None] - scores).mean()
    assert tiny_map.table["name"].to_list() == features.table["name"].to_list()
    reduced = pca.fit(features.matrix, seed=1).project(features.matrix)
    np.testing.assert_allclose(tsne.tsne(reduced, 10, seed=1), places, atol=1e-6)
    assert np.abs(tsne.tsne(reduced, 10, seed=2) - places).max() > 0.1


def test_every_cell_gets_its_own_selfie():
    """None twice; selfies that lie on a grid keep their cells; all together are moved least."""
    side = 6
    down, right = np.divmod(np.random.default_rng(1).permutation(side * side), side)
    cells = tsne.cells(np.stack([right, -down], axis=1).astype(float), side)  # y points up in the map
    np.testing.assert_array_equal(down[cells] * side + right[cells], np.arange(side * side))
    many = np.random.default_rng(2).normal(size=(200, 2))
    assert len(set(tsne.cells(many, side))) == side * side
    with pytest.raises(SelfieError, match="there are 200"):
        tsne.cells(many, 15)


def test_pictures_have_the_geometry_of_the_post(tmp_path, mirror):
    """40 x 40 cells with lines of one pixel; reduced to the size of the published figure."""
    generator = np.random.default_rng(3)
    small = generator.integers(60, 255, (1700, 48, 48, 3), dtype=np.uint8)
    tsne.draw(tmp_path, generator.normal(size=(1700, 2)), small, 40)
    grid = cv2.imread(str(tmp_path / "grid.jpg"))
    assert grid.shape == (1960, 1960, 3)
    assert grid[48::49].mean() < 25 and grid[:, 48::49].mean() < 25 and grid[24::49].mean() > 100
    published = cv2.imread(str(mirror("grid_render_tsne_reduced.jpg")))
    assert cv2.imread(str(tmp_path / "reduced.jpg")).shape == published.shape
    assert cv2.imread(str(tmp_path / "exact.jpg")).shape == (tsne.CANVAS, tsne.CANVAS, 3)


def test_a_known_selfie_is_placed_where_it_lies(tiny_map, tiny_run, tiny_lmdb, tmp_path):
    """The command places files of selfies that are in the map next to themselves; the map stays as it is."""
    before = (tiny_map.folder / "map.csv").read_bytes()
    files = [tiny_lmdb.parent / "images" / f"{name[9:]}.png" for name in tiny_map.table["name"][:8]]
    result = testlib.command(
        "tools/tsne_map.py", "--run", tiny_run.folder, "--out", tiny_map.folder, "--json", "--place", *files
    )
    assert result.returncode == 0, result.stderr
    placed = pl.read_json(result.stdout.encode())
    assert placed["neighbour"].to_list() == tiny_map.table["name"][:8].to_list()
    extent = np.ptp(tiny_map.places, axis=0).max()
    away = np.linalg.norm(placed.select("x", "y").to_numpy() - tiny_map.places[:8], axis=1)
    assert np.median(away) < 0.1 * extent
    assert (tiny_map.folder / "map.csv").read_bytes() == before


def test_no_library_warns_in_the_middle(tiny_map, tiny_run, features, tmp_path, monkeypatch):
    """Where lscpu knows no cores, as in many virtual machines, scikit-learn's joblib would warn with a traceback."""
    (tmp_path / "lscpu").write_text("#!/bin/sh\necho '# none'\n")
    (tmp_path / "lscpu").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    picture = next(tiny_run.database("train").parents[1].glob("images/*.png"))
    for arguments in (
        ("--features", features.folder, "--perplexity", 10, "--out", tmp_path / "map"),
        ("--place", picture, "--out", tiny_map.folder),
    ):
        result = testlib.command("tools/tsne_map.py", "--run", tiny_run.folder, *arguments)
        assert (result.returncode, result.stderr) == (0, "")


def test_bad_requests_are_one_line(tiny_run, tiny_map, features, tmp_path):
    """Too few selfies for the perplexity, features of another blob, no map, no features."""
    command = ("tools/tsne_map.py", "--run", tiny_run.folder, "--out", tmp_path / "map")
    testlib.assert_one_line_error(
        testlib.command(*command, "--features", features.folder), "64 selfies are too few", "--perplexity 21"
    )
    testlib.assert_one_line_error(
        testlib.command(*command, "--features", features.folder, "--perplexity", 5, "--cells", 9), "there are 64"
    )
    with pytest.raises(SelfieError, match="a perplexity of nan makes no sense"):
        tsne.make(features, tmp_path / "map", perplexity=float("nan"))
    testlib.assert_one_line_error(testlib.command(*command, "--features", tmp_path), "no finished features")
    testlib.assert_one_line_error(testlib.command(*command, "--place", "README.md"), "no finished map")
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    readable = next(tiny_run.database("train").parents[1].glob("images/*.png"))
    result = testlib.command(
        "tools/tsne_map.py",
        "--run",
        tiny_run.folder,
        "--out",
        tiny_map.folder,
        "--place",
        readable,
        tmp_path / "broken.jpg",
    )
    testlib.assert_one_line_error(result, "cannot place", "broken.jpg", "unknown format")
    with pytest.raises(SelfieError, match="another net"):
        tsne.place(tsne.Map(tmp_path, {**tiny_map.info, "caffemodel": "0"}, tiny_map.table), tiny_run, ["x.jpg"])


@pytest.mark.parametrize("text", ["null", "[]", "{}", '{"run": 1, "perplexity": "x"}', "{"])
def test_a_broken_map_json_is_one_line(tiny_map, tmp_path, text):
    folder = shutil.copytree(tiny_map.folder, tmp_path / "map")
    (folder / "map.json").write_text(text)
    with pytest.raises(SelfieError, match=r"map\.json"):
        tsne.load(folder)


@pytest.mark.parametrize("damage", ["cut off", "no archive", "an array", "other arrays", "of fewer selfies", "nan"])
def test_a_model_that_is_not_of_its_map_is_one_line(tiny_map, tiny_run, tmp_path, damage):
    folder = shutil.copytree(tiny_map.folder, tmp_path / "map")
    file = folder / "model.npz"
    with np.load(file) as model:
        arrays = {name: model[name] for name in model}
    if damage == "cut off":
        file.write_bytes(file.read_bytes()[:-99])
    elif damage == "no archive":
        file.write_bytes(b"no model")
    elif damage == "an array":
        with open(file, "wb") as opened:
            np.save(opened, arrays["mean"])
    elif damage == "other arrays":
        np.savez(file, mean=arrays["mean"])
    elif damage == "nan":
        np.savez(file, **{**arrays, "mean": arrays["mean"] * np.nan})
    else:
        np.savez(file, **{**arrays, "reduced": arrays["reduced"][:-1]})
    picture = next(tiny_run.database("train").parents[1].glob("images/*.png"))
    with pytest.raises(SelfieError, match=r"model\.npz is damaged, or not of this map: make the map again"):
        tsne.place(tsne.load(folder), tiny_run, [str(picture)])
