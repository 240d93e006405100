"""The mean that weights were trained with, and whether a net that starts from them is fed with it.

It is part of the weights: the same layers, fed with another mean, see every picture darker, lighter or of another
colour. Nothing in a caffemodel says it. It is known of pretrained weights (variants.MEANS), by their place or by the
name of their net, and of runs, from their run.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.net import caffemodel, variants, weights
from selfie.net.variants import Variant
from selfie.runs import run_folder

Mean = tuple[float, float, float]  # of blue, green and red


def of(model: Path) -> Mean | None:
    """Return the mean that a caffemodel was trained with; None where nothing tells it."""
    for folder in paths.resolved(model).parents[:2]:  # of a run, or of its snapshots
        if (folder / "run.json").exists():
            return run_folder.load(folder).preprocessing.mean
    if name := weights.known_as(model):
        return variants.MEANS[name]
    trained = variants.VARIANTS.get(caffemodel.net_name(model))  # a snapshot that was copied out of its run
    return trained.mean if trained else None


def check(
    variant: Variant, model: Path, option: str = "--variant", others: Mapping[str, Variant] = variants.VARIANTS
) -> None:
    """Raise SelfieError if a caffemodel is known to go with another mean than a variant's.

    option, others   what chooses a variant, and what it can be: so the error says what to type
    """
    mean = of(model)
    if mean is None or _equal(mean, variant.mean):
        return
    fitting = (
        name
        for name, other in others.items()
        if _equal(other.mean, mean)
        and (other.architecture, other.dropout, other.readout is None, other.shrink)
        == (variant.architecture, variant.dropout, variant.readout is None, variant.shrink)
    )
    name = next(fitting, None)
    raise SelfieError(
        f"{paths.shown(model)} was trained with the mean {_listed(mean)}, but {variant.name} takes "
        f"{_listed(variant.mean)} from pictures: {f'give {option}={name}' if name else 'give other weights'}"
    )


def _equal(one: Mean, other: Mean) -> bool:
    return bool(np.allclose(one, other, atol=1e-3))


def _listed(mean: Mean) -> str:
    return ", ".join(f"{value:g}" for value in mean)
