from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._caffe import Net
from .io import Transformer

class Classifier(Net):
    transformer: Transformer
    crop_dims: NDArray[np.int_]
    image_dims: Sequence[int] | NDArray[np.int_]
    def __init__(
        self,
        model_file: str,
        pretrained_file: str,
        image_dims: Sequence[int] | None = None,
        mean: NDArray[Any] | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
    ) -> None: ...
    def predict(self, inputs: Sequence[NDArray[Any]], oversample: bool = True) -> NDArray[np.float32]: ...
