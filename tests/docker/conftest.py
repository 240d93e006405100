"""Most tests here are of the Caffe that is built here: its programs, its libraries, its source."""

from __future__ import annotations

import pytest

import testlib

OF_THE_BUILD = {"test_build_script", "test_caffe_build", "test_caffe_errors", "test_caffe_faults", "test_dockerfile"}
OF_THE_BUILD |= {"test_old_code", "test_patches", "test_pycaffe_api", "test_pycaffe_types"}


@pytest.fixture(autouse=True, scope="module")
def built_here(request: pytest.FixtureRequest) -> None:
    """Skip the tests of the build where Caffe came as a wheel."""
    if request.module.__name__ in OF_THE_BUILD:
        testlib.need_build()
