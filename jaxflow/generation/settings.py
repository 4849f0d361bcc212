"""How a clip is sampled: what is asked for, as far as a network can do it."""

import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxflow import _checks
from jaxflow.diffusion import process as processes

Conditioning = Literal["network", "replacement", "reconstruction"]
CONDITIONINGS = ("network", "replacement", "reconstruction")
SAMPLERS = ("ddim", "ddpm")


class Settings(NamedTuple):
    """How a clip is sampled.

    Attributes:
        steps: Number of steps.
        sampler: "ddim" or "ddpm".
        noise: Of "ddim" its eta, of "ddpm" its gamma; see `samplers`.
        conditioning: How frames are followed: by the "network", which was trained to,
            or by "replacement" or "reconstruction" guidance.
        weight: Of reconstruction guidance.
        scale: Of classifier-free guidance; 1 is none.
    """

    steps: int = 50
    sampler: Literal["ddim", "ddpm"] = "ddim"
    noise: float = 0.0
    conditioning: Conditioning = "network"
    weight: float = 1.0
    scale: float = 1.0


def default_settings(model: Any, *, conditional: bool) -> Settings:
    """Returns the settings that `generate` takes for a model.

    Args:
        model: A network of task "generation".
        conditional: Whether any frames are observed.

    Examples:
        >>> from flax import nnx
        >>> from jaxflow.models.generation import unet3d
        >>> model = unet3d.Model(unet3d.RECORD.tiny, rngs=nnx.Rngs(0))
        >>> free = jaxflow.generation.default_settings(model, conditional=False)
        >>> free.sampler
        'ddim'
    """
    if extends(model):
        return Settings(sampler="ddpm")
    if conditional and "observed" not in model.takes:
        return Settings(conditioning="reconstruction")
    return Settings()


def extends(model: Any) -> bool:
    """Tells whether a network makes each frame from those before it."""
    return hasattr(model, "extend")


def check_settings(
    model: Any, settings: Settings | None, conditional: bool
) -> Settings:
    """Returns the settings given, or those that suit the network if there are none.

    Args:
        model: A network of task "generation".
        settings: What was given.
        conditional: Whether any frames are observed.

    Raises:
        ValueError: If a setting is unknown or out of range, or the network cannot do
            it.
    """
    trained = "observed" in model.takes
    if settings is None:
        settings = default_settings(model, conditional=conditional)
    _checks.one_of("settings.sampler", settings.sampler, SAMPLERS)
    _checks.one_of("settings.conditioning", settings.conditioning, CONDITIONINGS)
    if extends(model) and settings.conditioning != "network":
        raise ValueError(
            "this network follows the frames before by itself: use the conditioning "
            "'network'"
        )
    trained = trained or extends(model)
    if conditional and settings.conditioning == "network" and not trained:
        raise ValueError(
            "this network takes no observed frames: use the conditioning "
            "'reconstruction' or 'replacement'"
        )
    for name in ("weight", "scale"):
        value = getattr(settings, name)
        if not math.isfinite(value):
            raise ValueError(f"`settings.{name}` must be finite; got {value}")
    if not 0 <= settings.noise <= 1:
        raise ValueError(f"`settings.noise` must be in [0, 1]; got {settings.noise}")
    return settings


def check_condition(model: Any, condition: np.ndarray) -> jax.Array:
    """Returns the condition of one video, (1, ...).

    Args:
        model: A network of task "generation".
        condition: A class, or an embedding.

    Raises:
        ValueError: If the network has no such class.
    """
    classes = getattr(model.config, "num_classes", None)
    integral = condition.ndim == 0 and condition.dtype.kind in "iu"
    if classes is not None and not (integral and -1 <= condition < classes):
        raise ValueError(
            f"`condition` must be a class from 0 to {classes - 1}, or -1 for none; got "
            f"{condition}"
        )
    if condition.dtype.kind in "iu":
        condition = condition.astype(np.int32)
    return jnp.asarray(condition)[None]


def find_process(model: Any, process: processes.Process | None) -> processes.Process:
    """Returns the process given, or that of the network.

    Args:
        model: A network of task "generation".
        process: What was given.

    Raises:
        ValueError: If there is neither.
    """
    process = getattr(model, "process", None) if process is None else process
    if process is None:
        raise ValueError(
            "this network does not say what noise it was trained with: give `process`, "
            "a `jaxflow.diffusion.process.Process`"
        )
    return process
