"""OpenCV and Pillow, imported when they are first used: who computes with a net on a machine without them can do so."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any


class Late(ModuleType):
    """A module that is imported when something in it is asked for; ModuleNotFoundError then, if it is not there."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what Python itself asks of modules
            raise AttributeError(name)
        return getattr(importlib.import_module(self.__name__), name)


if TYPE_CHECKING:
    import cv2 as cv2
    from PIL import Image as Image
    from PIL import ImageOps as ImageOps
    from PIL import features as features
else:
    cv2, Image, ImageOps, features = map(Late, ("cv2", "PIL.Image", "PIL.ImageOps", "PIL.features"))
