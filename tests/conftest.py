"""Make JAX strict and its compilations cheap, before anything is traced."""

import contextlib
import ctypes
import gc
import os
import pathlib
import resource

import jax
import numpy as np
import pytest

from tests import cheaply

jax.config.update("jax_numpy_dtype_promotion", "strict")
# No array gets axes in front without a word; nor in the programs that tests start.
jax.config.update("jax_numpy_rank_promotion", "raise")
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_default_prng_impl", "rbg")
# Parity with float32 peers needs float32 products on accelerators too.
jax.config.update("jax_default_matmul_precision", "highest")

_CACHE = pathlib.Path(__file__).parent.parent / ".jax_cache"
jax.config.update("jax_compilation_cache_dir", str(_CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

# Programs are made of very many objects that live long; the collector need not look at
# them again and again.
gc.freeze()
gc.set_threshold(100_000, 50, 100)

# A worker keeps what it compiled until it holds this much; what is compiled again comes
# from the cache on disk.
_MOST_MEMORY = 3 * 2**30

# What takes long beside other cases of the same test, or other tests of the same thing.
_SLOW_CASES = pathlib.Path(__file__).parent / "slow_cases.txt"

_DEFAULT_DATA = pathlib.Path(__file__).parent.parent.parent / "shared"
DATA = pathlib.Path(os.environ.get("JAXFLOW_TEST_DATA", _DEFAULT_DATA))


@pytest.fixture(scope="session")
def test_data():
    """Folder of golden files and real samples; the test is skipped without it."""
    if not (DATA / "golden").is_dir():
        pytest.skip(f"no test data at {DATA}; set JAXFLOW_TEST_DATA")
    return DATA


@pytest.fixture
def rng():
    """A NumPy generator with a fixed seed."""
    return np.random.default_rng(0)


@pytest.fixture
def double():
    """Switches float64 on, in a way that every JAX since 0.7.2 knows."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


# Compiled as users do: what runs long, and what is compared bit for bit with what a
# process of its own computes, or between two programs. Without optimisation JAX 0.7
# misses corners.
_OPTIMISED = {
    *("test_checkpoint", "test_crashes", "test_features", "test_guidance"),
    *("test_run_time", "test_samplers"),
    "test_a_drawn_batch_shows_each_scene_both_ways",
    # Two parts of a program may round apart what is drawn in float32.
    "test_visible_points_keep_their_colour_to_the_last_digit_in_float64",
}


def pytest_collection_modifyitems(items):
    """Marks the tests and cases of slow_cases.txt as slow."""
    listed = set(_SLOW_CASES.read_text().splitlines())
    for item in items:
        if not listed.isdisjoint({item.nodeid, item.nodeid.partition("[")[0]}):
            item.add_marker("slow")


@pytest.fixture(autouse=True)
def cheap_compilation(request):
    """Compiles cheaply, but for what is better compiled as users do."""
    names = {request.path.stem, getattr(request.node, "originalname", None)}
    cheaply.switch(not names & _OPTIMISED)
    yield
    cheaply.switch(False)


@pytest.fixture(autouse=True, scope="module")
def little_memory():
    """Forgets what was compiled, after a module that leaves a worker large."""
    yield
    cheaply.forget()
    if _resident_memory() > _MOST_MEMORY:
        jax.clear_caches()
        with contextlib.suppress(OSError, AttributeError):
            # What is free stays with the process otherwise, and counts again.
            ctypes.CDLL(None).malloc_trim(0)


def _resident_memory():
    """Bytes of this process in memory now; the most there ever were, off Linux."""
    try:
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return pages * os.sysconf("SC_PAGE_SIZE")
