"""Make JAX strict and its compilations cheap, before anything is traced."""

import os
import pathlib
import resource

import jax
import numpy as np
import pytest

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

# A worker keeps what it compiled until it holds this much; what is compiled again comes
# from the cache on disk.
_MOST_MEMORY_KIB = 3 * 2**20

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


@pytest.fixture(autouse=True, scope="module")
def cheap_compilation(request):
    """Halves the time that XLA takes where large programs run for a moment.

    Operations and published networks are tested as they are used, optimised.
    """
    folder = request.path.parent.name
    whole = folder in ("classical", "data", "demo", "experiments", "layers", "train")
    cheap = whole or request.path.stem in ("test_contract", "test_derivatives")
    # Without optimisation, JAX 0.7 misses corners; nobody runs it like that.
    cheap = cheap and request.path.stem != "test_features"
    jax.config.update("jax_disable_most_optimizations", cheap)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > _MOST_MEMORY_KIB:
        jax.clear_caches()
