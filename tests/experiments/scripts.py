"""Scripts of the experiments, as the tests import them; and a tiny network for them."""

import contextlib
import importlib
import pathlib

import pytest

from jaxflow.models.generation import fdm

EXPERIMENTS = pathlib.Path(__file__).parents[2] / "experiments"

TINY_FDM = fdm.Config(
    channels=1,
    model_channels=8,
    num_res_blocks=1,
    channel_mult=(1,),
    attention_downsampling=(),
    num_heads=2,
    groups=4,
    num_frames=5,
    image_size=16,
    official_attention=False,
    schedule="cosine",
    predicts="velocity",
)


@contextlib.contextmanager
def imported(folder, name):
    """Imports a script by its name, as its own folder sees it."""
    if not EXPERIMENTS.is_dir():
        pytest.skip("installed without its experiments")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXPERIMENTS / folder)
        yield importlib.import_module(name)
