"""jaxflow: motion and video understanding in JAX.

Namespaces and functions are imported when they are first used, so that `import jaxflow`
is quick and a missing extra is missed only by what needs it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxflow import banks as banks
    from jaxflow import checkpoint as checkpoint
    from jaxflow import classical as classical
    from jaxflow import classify as classify
    from jaxflow import data as data
    from jaxflow import detect as detect
    from jaxflow import detections as detections
    from jaxflow import diffusion as diffusion
    from jaxflow import evaluate as evaluate
    from jaxflow import io as io
    from jaxflow import layers as layers
    from jaxflow import linear as linear
    from jaxflow import losses as losses
    from jaxflow import maximise as maximise
    from jaxflow import metrics as metrics
    from jaxflow import models as models
    from jaxflow import ops as ops
    from jaxflow import quality as quality
    from jaxflow import train as train
    from jaxflow import two_stream as two_stream
    from jaxflow import viz as viz
    from jaxflow import weights as weights
    from jaxflow.classify import classify_video as classify_video
    from jaxflow.convert import convert_state_dict as convert_state_dict
    from jaxflow.convert import load_model as load_model
    from jaxflow.convert import load_pretrained as load_pretrained
    from jaxflow.convert import load_weights as load_weights
    from jaxflow.convert import save_weights as save_weights
    from jaxflow.detect import detect_actions as detect_actions
    from jaxflow.estimate import BothWays as BothWays
    from jaxflow.estimate import estimate_both_ways as estimate_both_ways
    from jaxflow.estimate import estimate_clip as estimate_clip
    from jaxflow.estimate import estimate_flow as estimate_flow
    from jaxflow.estimate import stream_flow as stream_flow
    from jaxflow.generation import generate as generate
    from jaxflow.models import create_model as create_model
    from jaxflow.models import list_models as list_models

__version__ = "0.1.0.dev0"

_NAMESPACES = (
    "banks",
    "checkpoint",
    "classical",
    "classify",
    "data",
    "detect",
    "detections",
    "diffusion",
    "evaluate",
    "io",
    "layers",
    "linear",
    "losses",
    "maximise",
    "metrics",
    "models",
    "ops",
    "quality",
    "train",
    "two_stream",
    "viz",
    "weights",
)
_FUNCTIONS = {
    "BothWays": "estimate",
    "classify_video": "classify",
    "convert_state_dict": "convert",
    "create_model": "models",
    "detect_actions": "detect",
    "estimate_both_ways": "estimate",
    "estimate_clip": "estimate",
    "estimate_flow": "estimate",
    "generate": "generation",
    "list_models": "models",
    "load_model": "convert",
    "load_pretrained": "convert",
    "load_weights": "convert",
    "save_weights": "convert",
    "stream_flow": "estimate",
}


def __getattr__(name: str) -> Any:
    if name in _NAMESPACES:
        return importlib.import_module(f"jaxflow.{name}")
    if name in _FUNCTIONS:
        module = importlib.import_module(f"jaxflow.{_FUNCTIONS[name]}")
        value = globals()[name] = getattr(module, name)
        return value
    raise AttributeError(f"module 'jaxflow' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_NAMESPACES, *_FUNCTIONS])
