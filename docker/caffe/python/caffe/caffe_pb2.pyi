from typing import Any

TRAIN: int
TEST: int

# The messages of caffe.proto, and their enums.
def __getattr__(name: str) -> Any: ...
