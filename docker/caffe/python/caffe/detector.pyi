from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._caffe import Net
from .io import Transformer

class Detector(Net):
    transformer: Transformer
    context_pad: int | None
    crop_mean: NDArray[Any]
    def __init__(
        self,
        model_file: str,
        pretrained_file: str,
        mean: NDArray[Any] | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
        context_pad: int | None = None,
    ) -> None: ...
    def detect_windows(self, images_windows: Iterable[tuple[str, NDArray[Any]]]) -> list[dict[str, Any]]: ...
    def detect_selective_search(self, image_fnames: Sequence[str]) -> list[dict[str, Any]]: ...
    def crop(self, im: NDArray[Any], window: NDArray[Any]) -> NDArray[np.float32]: ...
    def configure_crop(self, context_pad: int | None) -> None: ...
