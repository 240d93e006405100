"""The published figures as data: geometry, tiles without a history, the same selfie in two figures."""

from __future__ import annotations

import io

import cv2
import numpy as np
import polars as pl
import pytest
from PIL import Image

import testlib
from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.original import duplicates, figures, reduction, tile_labels

GRIDS = ("best", "worst", "continuum")


@pytest.fixture(scope="module")
def grids(mirror):
    """The three grids that a mirror holds, cut: name -> tiles."""
    for name in GRIDS:
        mirror(figures.FIGURES[name].file)
    return {name: figures.tiles(name) for name in GRIDS}


def drawn(figure: figures.Figure, seed: int = 0) -> tuple[np.ndarray, list[np.ndarray]]:
    """A picture of `figure`'s geometry and the tiles that were put into it."""
    generator = np.random.default_rng(seed)
    picture = np.zeros((*figure.shape, 3), np.uint8)
    side, inside = figure.pitch - 1, []
    for row in range(figure.rows):
        for column in range(figure.columns):
            y, x = figure.origin[0] + row * figure.pitch, figure.origin[1] + column * figure.pitch
            tile = cv2.resize(generator.integers(0, 256, (4, 4, 3), dtype=np.uint8), (side, side))
            picture[y : y + side, x : x + side] = tile
            inside.append(tile)
    return picture, inside


@pytest.mark.parametrize("name", [name for name, figure in figures.FIGURES.items() if figure.pitch])
def test_cutting_gives_back_what_was_drawn(name):
    """Every tile, whole, in reading order and without its line, for the geometry of each figure."""
    figure = figures.FIGURES[name]
    picture, inside = drawn(figure)
    tiles = figures.cut(name, figure, picture)
    assert [(tile.row, tile.column) for tile in tiles] == list(np.ndindex(figure.rows, figure.columns))
    assert all(np.array_equal(tile.bgr, expected) for tile, expected in zip(tiles, inside))


@pytest.mark.parametrize("shift", [(0, 1), (1, 0), (-2, -2)])
def test_a_grid_that_is_off_by_a_pixel_is_refused(shift):
    """Lines that are not where they should be are an error, not 400 crooked tiles."""
    figure = figures.FIGURES["best"]
    with pytest.raises(SelfieError, match="separator lines"):
        figures.cut("best", figure, np.roll(drawn(figure)[0], shift, (0, 1)))


def test_a_picture_of_another_size_is_refused():
    """A thumbnail of the figure is not the figure."""
    with pytest.raises(SelfieError, match="1290 x 1290"):
        figures.cut("best", figures.FIGURES["best"], np.zeros((645, 645, 3), np.uint8))


def test_a_missing_figure_says_how_to_get_it(monkeypatch, tmp_path):
    """One line that names the file, its home and the mirror."""
    monkeypatch.delenv("SELFIE_MIRROR", raising=False)
    monkeypatch.setattr(paths, "DATA", tmp_path)
    with pytest.raises(SelfieError, match=r"grid_render_best\.jpg.*karpathy\.github\.io.*SELFIE_MIRROR"):
        figures.load("best")


def test_a_wrong_file_under_the_right_name_is_refused(monkeypatch, tmp_path):
    """The checksum is checked wherever the file was found."""
    (tmp_path / "grid_render_best.jpg").write_bytes(b"something else")
    monkeypatch.setenv("SELFIE_MIRROR", str(tmp_path))
    with pytest.raises(SelfieError, match="not the published figure"):
        figures.load("best")


def test_the_published_grids_are_cut_along_their_lines(grids):
    """100, 300 and 240 tiles of the known size; no black line is left at an edge (it would be dark in every tile)."""
    for name, size in (("best", 128), ("worst", 48), ("continuum", 128)):
        figure, tiles = figures.FIGURES[name], grids[name]
        assert len(tiles) == figure.rows * figure.columns
        assert {tile.bgr.shape for tile in tiles} == {(size, size, 3)}
        mean = np.mean([tile.bgr for tile in tiles], axis=(0, 3))
        for edge in (mean[0], mean[-1], mean[:, 0], mean[:, -1]):
            assert edge.mean() > 0.6 * mean.mean()


def test_tiles_are_coded_again_exactly_as_the_figures_were(mirror):
    """Quantisation tables and chroma subsampling of our JPEG are those of the published files."""
    ours = Image.open(io.BytesIO(reduction.encode_as_published(np.zeros((64, 64, 3), np.uint8)).tobytes()))
    for name in GRIDS:
        theirs = Image.open(mirror(figures.FIGURES[name].file))
        assert ours.quantization == theirs.quantization and ours.layer == theirs.layer


def sharpness(bgr: np.ndarray) -> float:
    """Log share of the highest frequencies in a picture's luma."""
    gray = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY).astype(float)
    window = np.hanning(len(gray))
    power = np.abs(np.fft.fft2((gray - gray.mean()) * np.outer(window, window))) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(len(gray)), np.fft.fftfreq(len(gray))))
    return np.log(power[frequency > 0.4].sum() / power[frequency > 0].sum() + 1e-6)


def test_reduced_tiles_do_not_tell_their_figure(grids):
    """The twelve selfies that continuum and worst share: as sharp in one as in the other. Plain reducing fails this."""
    both = grids["continuum"], grids["worst"]
    twins = duplicates.near_duplicates(*([tile.bgr for tile in figure] for figure in both))
    assert len(twins) == 12

    def gap(continuum, worst):
        return np.mean([sharpness(continuum[i]) - sharpness(worst[j]) for i, j in twins])

    plain = gap(*([cv2.resize(tile.bgr, (48, 48), interpolation=cv2.INTER_AREA) for tile in tiles] for tiles in both))
    at_48, at_32 = (gap(*([tile.bgr for tile in reduction.reduce(tiles, size)] for tiles in both)) for size in (48, 32))
    assert plain < -0.5 and abs(at_48) < 0.25 and abs(at_32) < 0.1


def test_all_figures_are_reduced_to_one_size():
    """48 pixels at most, whatever the tiles came in; the same again on a second call."""
    some = [
        tile
        for name in ("best", "worst")
        for tile in figures.cut(name, figures.FIGURES[name], drawn(figures.FIGURES[name])[0])
    ]
    for size in (24, 48):
        reduced = reduction.reduce(some, size)
        assert {tile.bgr.shape for tile in reduced} == {(size, size, 3)}
        assert [tile.id for tile in reduced] == [tile.id for tile in some]
        assert all(np.array_equal(a.bgr, b.bgr) for a, b in zip(reduced, reduction.reduce(some, size)))
    with pytest.raises(SelfieError, match="not 64"):
        reduction.reduce(some, 64)


@pytest.mark.parametrize("size, quality, crop", [(48, 30, 0.05), (64, 50, 0.05), (256, 75, 0.05), (48, 40, 0.0)])
def test_planted_duplicates_are_found_and_nothing_else(grids, size, quality, crop):
    """Of other size and JPEG quality, 5 % cut off anywhere: every published selfie is found again, and only itself."""
    generator = np.random.default_rng(0)
    originals = [tile.bgr for tile in grids["continuum"]][::2]
    planted = []
    for bgr in originals:
        side = round(len(bgr) * (1 - crop))
        y, x = generator.integers(0, len(bgr) - side + 1, 2)
        copy = cv2.resize(bgr[y : y + side, x : x + side], (size, size), interpolation=cv2.INTER_AREA)
        planted.append(cv2.imdecode(cv2.imencode(".jpg", copy, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1))
    assert duplicates.near_duplicates(originals, planted) == [(i, i) for i in range(len(originals))]


def test_duplicates_within_one_list_are_pairs_in_order():
    """Each pair once; a blank picture is like no other."""
    generator = np.random.default_rng(0)
    first, second = (cv2.resize(generator.integers(0, 256, (6, 6, 3), dtype=np.uint8), (90, 90)) for _ in range(2))
    blank = np.full((90, 90, 3), 255, np.uint8)
    assert duplicates.near_duplicates([first, blank, second, cv2.resize(first, (50, 50)), blank]) == [(0, 3)]
    assert duplicates.near_duplicates([], [first]) == []


def test_the_continuum_begins_with_the_best_and_ends_with_the_worst(grids):
    """What the published pictures say of themselves: its first row is the best's first twelve, its last the worst's."""
    best, worst, continuum = ([tile.bgr for tile in grids[name]] for name in ("best", "worst", "continuum"))
    assert sorted(j for _, j in duplicates.near_duplicates(continuum, best)) == list(range(12))
    assert sorted(i for i, _ in duplicates.near_duplicates(continuum, worst)) == list(range(228, 240))
    assert duplicates.near_duplicates(best + worst) == []


def test_cut_figures_writes_a_split_and_its_test(grids, tmp_path):
    """Tiles, labels and continuum, the same on every run; shared selfies are marked, or left out on demand."""
    result = testlib.command("tools/cut_figures.py", "--out", tmp_path / "a")
    assert result.returncode == 0, result.stderr
    again, same_labels, _ = tile_labels.labelled()
    assert all(np.array_equal(cv2.imread(str(tmp_path / "a" / "tiles" / tile.file)), tile.bgr) for tile in again)
    assert (tmp_path / "a" / "labels.csv").read_text() == same_labels.write_csv()
    labels, continuum = (pl.read_csv(tmp_path / "a" / name) for name in ("labels.csv", "continuum.csv"))
    assert labels.columns == ["id", "path", "label", "split", "user", "audience", "group", "likes"]
    assert labels["label"].sum() == 100 and len(labels) == 400
    assert labels.filter(split="train").height == 280 and labels.filter(split="val", label=1).height == 15
    for path in [*labels["path"], *continuum["path"]]:
        assert cv2.imread(str(tmp_path / "a" / "tiles" / path)).shape == (32, 32, 3)
    marked = continuum.drop_nulls("duplicate_of")
    assert sorted(set(marked["row"])) == [0, 19] and len(marked) == 24
    assert set(marked["duplicate_of"]) <= set(labels["id"])
    _, alone, _ = tile_labels.labelled(24, seed=5, whole_continuum=True)
    assert len(alone) == 376 and not set(alone["id"]) & set(marked["duplicate_of"])


def test_cut_figures_refuses_a_wrong_figure(tmp_path):
    """One line and no output."""
    for name in GRIDS:
        (tmp_path / figures.FIGURES[name].file).write_bytes(b"not it")
    result = testlib.command(
        "tools/cut_figures.py", "--out", tmp_path / "out", env={"SELFIE_MIRROR": str(tmp_path), "PATH": ""}
    )
    testlib.assert_one_line_error(result, "not the published figure")
    assert not (tmp_path / "out").exists()
