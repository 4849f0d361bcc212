"""Clips out of a network: a pure, compiled function of weights and arrays."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxflow.diffusion import guidance, parameterisations, samplers
from jaxflow.diffusion import process as processes
from jaxflow.generation.settings import Settings


def clip_sampler(
    model: nnx.Module, settings: Settings, *, process: processes.Process
) -> Callable[..., jax.Array]:
    """Returns a compiled function that samples clips.

    Args:
        model: A network of task "generation"; later changes to it have no effect.
        settings: How to sample.
        process: That the network was trained with.

    Returns:
        (key, clean, observed, latent, indices, condition=None) -> clip, with clean
        (B, T, H, W, C) in [-1, 1], masks and indices (B, T).

    Examples:
        A network that knows nothing but that frames stay as the first:

        >>> import types
        >>> from flax import nnx
        >>> from jaxflow.diffusion import process
        >>> class Still(nnx.Module):
        ...     takes, multiple = ("clean", "observed"), 1
        ...     config = types.SimpleNamespace(channels=1, num_frames=3)
        ...     process = process.Process(predicts="data")
        ...
        ...     def __call__(self, noisy, time, clean, observed):
        ...         return jnp.broadcast_to(clean[:, :1], clean.shape)
        >>> sample = jaxflow.generation.clip_sampler(
        ...     Still(), jaxflow.generation.Settings(steps=2), process=Still.process
        ... )
        >>> clean = jnp.zeros((1, 3, 4, 4, 1)).at[:, 0].set(0.5)
        >>> given, indices = jnp.array([[True, False, False]]), jnp.arange(3)[None]
        >>> clip = sample(jax.random.key(0), clean, given, ~given, indices)
        >>> clip[0, :, 0, 0, 0].round(3).tolist()
        [0.5, 0.5, 0.5]
    """
    model = nnx.merge(*nnx.split(model), copy=True)
    model.eval()
    graph, state = nnx.split(model)
    run = functools.partial(_sample, graph, settings, process)

    def sample(key, clean, observed, latent, indices, condition=None):
        return run(state, key, clean, observed, latent, indices, condition)

    return sample


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _sample(
    graph, settings, process, state, key, clean, observed, latent, indices, condition
):
    """Samples clips: a pure function of weights and arrays."""
    model: Any = nnx.merge(graph, state)
    context = {"clean": clean, "observed": observed, "latent": latent}
    context["indices"] = indices
    if settings.conditioning != "network":
        del context["clean"], context["observed"]
    context = {name: x for name, x in context.items() if name in model.takes}

    def predict(condition, noisy, time):
        time = jnp.broadcast_to(time, noisy.shape[:1])
        given = {} if condition is None else {"condition": condition}
        return model(noisy, time, **context, **given)

    free = functools.partial(predict, None)
    if condition is not None:
        own = functools.partial(predict, condition)
        free = guidance.classifier_free(own, free, settings.scale)
    # Of predictions with a variance the sampler here takes the mean alone.
    before, denoise = (
        None,
        parameterisations.denoiser(
            free,
            process.predicts,
            threshold=None,
            learns_variance=getattr(model.config, "learns_variance", False),
        ),
    )
    if settings.conditioning != "network":
        before = guidance.replacement(clean, observed)
    if settings.conditioning == "reconstruction":
        denoise = guidance.reconstruction(
            denoise, clean, observed, weight=settings.weight
        )
    denoise = guidance.thresholded(denoise, parameterisations.clip)
    first, rest = jax.random.split(key)
    start = jax.random.normal(first, clean.shape, clean.dtype)
    steps = processes.sampling_steps(process, settings.steps)
    update = _update(settings)
    return samplers.sample(rest, denoise, start, steps, update=update, before=before)


def _update(settings: Settings) -> samplers.Update:
    """Returns a step of the sampler."""
    if settings.sampler == "ddim":
        return functools.partial(samplers.ddim, eta=settings.noise)
    return functools.partial(samplers.ddpm, gamma=settings.noise)


def check_extension(mask: np.ndarray, scheme: Any, condition: Any) -> int:
    """Returns the number of given frames, for a network that extends videos.

    Args:
        mask: Which frames are given, (T,) bool.
        scheme: What was given to `jaxflow.generate`, as is `condition`.
        condition: Likewise.

    Raises:
        ValueError: If the network cannot do that.
    """
    given = int(mask.sum())
    if not given or not mask[:given].all():
        raise ValueError(
            "this network makes each frame from those before it: give the first frames "
            "of the video, and `observed` 'future'"
        )
    if scheme not in (None, "autoreg"):
        raise ValueError(
            f"`scheme` {scheme!r} needs a network that is told the numbers of frames; "
            "this one takes 'autoreg'"
        )
    if condition is not None:
        raise ValueError("this network takes no `condition`; leave it None")
    return given


def extend(
    key: jax.Array,
    model: nnx.Module,
    settings: Settings,
    process: processes.Process,
    clips: np.ndarray,
    given: int,
) -> np.ndarray:
    """Fills clips after their given frames, by a network that makes the next ones.

    Args:
        key: Random key.
        model: The network.
        settings: How to sample.
        process: That the network was trained with.
        clips: (B, T, H, W, C) in [-1, 1].
        given: Number of the first frames, which are given.

    Returns:
        The clips, with their frames from `given` on replaced.
    """
    model = nnx.merge(*nnx.split(model), copy=True)
    model.eval()
    graph, state = nnx.split(model)
    count = clips.shape[1] - given
    first = clips[:, :given]
    made = _extension(graph, settings, process, count, state, key, first)
    return np.concatenate([first, np.asarray(made)], axis=1)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _extension(graph, settings, process, count, state, key, frames):
    """Makes frames after those given: a pure function of weights and arrays."""
    model: Any = nnx.merge(graph, state)
    steps = processes.sampling_steps(process, settings.steps)
    update = _update(settings)
    return model.extend(key, frames, count=count, steps=steps, update=update)
