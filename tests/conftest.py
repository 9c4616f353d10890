"""Shared by all tests: quiet runtime, MindSpore's droppings kept out of the checkout, context restored."""

import os

os.environ.setdefault("MAAM_OPS_QUIET", "1")
os.environ.setdefault("GLOG_v", "3")

import pytest

# MindSpore is imported where it is needed: tests of the kernels run without it.


@pytest.fixture(scope="session", autouse=True)
def _scratch_directory(tmp_path_factory):
    """MindSpore writes rank_0/ and kernel caches into the working directory."""
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("cwd"))
    yield
    os.chdir(before)


@pytest.fixture(scope="session", autouse=True)
def _runner_ends_well():
    """A sanitizer that watches over the kernels in another process reports leaks at its end."""
    yield
    if os.environ.get("MAAM_OPS_TEST_RUNNER"):
        from tests.kernels import core

        core.close()


@pytest.fixture(params=["pynative", "graph"])
def mode(request):
    """Run the test in both modes."""
    import mindspore as ms

    before = ms.get_context("mode")
    ms.set_context(mode=ms.PYNATIVE_MODE if request.param == "pynative" else ms.GRAPH_MODE)
    yield request.param
    ms.set_context(mode=before)


@pytest.fixture
def pynative():
    import mindspore as ms

    before = ms.get_context("mode")
    ms.set_context(mode=ms.PYNATIVE_MODE)
    yield
    ms.set_context(mode=before)
