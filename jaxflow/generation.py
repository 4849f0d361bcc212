"""Videos out of a diffusion network, in one call.

    video = jaxflow.generate(model, frames, observed=mask)

Videos are (T, H, W, C): uint8, or floating in [0, 1]; networks see [-1, 1].
"""

import functools
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from flax import nnx

from jaxflow import _checks
from jaxflow.diffusion import (
    guidance,
    long_video,
    masks,
    parameterisations,
    samplers,
)
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


def generate(
    model: nnx.Module,
    frames: npt.ArrayLike | None = None,
    *,
    observed: npt.ArrayLike | masks.Task | None = None,
    length: int | None = None,
    size: tuple[int, int] | None = None,
    scheme: long_video.Scheme | None = None,
    condition: npt.ArrayLike | None = None,
    settings: Settings | None = None,
    process: processes.Process | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Generates the frames of a video that are not given.

    A video longer than `model.config.num_frames` is generated in stages, each of which
    is compiled once; a network that makes one frame after the other, such as RVD, runs
    over the video once. The same seed gives the same video on the same machine.

    Args:
        model: A network of task "generation".
        frames: (T, H, W, C), uint8 or floating in [0, 1]; frames not observed have no
            effect. None gives nothing.
        observed: Which frames are given, (T,) bool; or a task: "future" takes `frames`
            for the first ones of the video, "past" for the last ones, "interpolate" for
            the first half and the last half of what is given. None: all of `frames` are
            given, as for "future".
        length: Frames of the video; None is that of `frames`, or of the model.
        size: Height and width if no frames are given; None is the model's.
        scheme: How a long video is made; see `long_video.schedule`. For "future" and
            "past" None is "hierarchy-2", or "autoreg" of a network that is not told the
            numbers of frames; other videos are filled from the first missing
            frame on, and take no scheme.
        condition: What the network is conditioned on, for one video: a class, or an
            embedding.
        settings: How clips are sampled. None is `Settings()`, by the network if it
            takes observed frames, and else by reconstruction guidance.
        process: That the network was trained with; None takes `model.process`.
        seed: Of all that is random.
        progress: Called with (stages done, stages in all).

    Returns:
        The video, (T, H, W, C): float32 in [0, 1], or uint8 if `frames` are. Observed
        frames are those given, bit for bit.

    Raises:
        ValueError: If frames, mask, length or size do not fit each other or the model,
            an observed frame is not finite, or the model cannot do what is asked.
    """
    _checks.seed("seed", seed)
    video, mask, task = _given(model, frames, observed, length, size)
    settings = _settings(model, settings, bool(mask.any()))
    if condition is None and settings.scale != 1:
        raise ValueError(
            f"`settings.scale` {settings.scale} exaggerates a `condition`: give "
            "one, or leave the scale 1"
        )
    process = _process(model, process)
    network: Any = model
    if condition is not None:
        condition = _condition(network, np.asarray(condition))
    scaled = 2 * np.asarray(_unit(video), np.float32) - 1
    scaled[~mask] = 0
    key = jax.random.key(seed)
    if _extends(model):
        given = _check_extends(mask, scheme, condition)
        made = _extended(key, model, settings, process, scaled[None], given)[0]
    else:
        most = min(getattr(network.config, "num_frames", len(video)), len(video))
        stages = _stages(network, mask, task, scheme, most)
        sample = clip_sampler(model, settings, process=process)
        made = long_video.fill(
            key,
            functools.partial(sample, condition=condition),
            scaled[None],
            stages,
            most=most,
            pads="latent" in network.takes,
            progress=progress,
        )[0]
    fresh = np.clip((made + 1) / 2, 0, 1)
    if not np.isfinite(fresh).all():
        raise ValueError(
            "the network gave numbers that are not finite: its weights, or `process`, "
            "are not those that it was trained with"
        )
    if video.dtype == np.uint8:
        fresh = np.round(255 * fresh)
    return np.where(mask[:, None, None, None], video, fresh.astype(video.dtype))


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
    if _extends(model):
        return Settings(sampler="ddpm")
    if conditional and "observed" not in model.takes:
        return Settings(conditioning="reconstruction")
    return Settings()


def places(task: masks.Task, length: int, given: int) -> np.ndarray:
    """Returns where a task has given frames in a video, (length,) bool.

    Args:
        task: A name in `masks.TASKS`.
        length: Frames of the video.
        given: Number of given frames; with none all are to be generated.

    Raises:
        ValueError: As for `masks.task`.

    Examples:
        >>> jaxflow.generation.places("future", 5, 2).tolist()
        [True, True, False, False, False]
    """
    if not given:
        return np.zeros(length, bool)
    return masks.task(task, length, given=given)


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


def _extends(model: Any) -> bool:
    """Tells whether a network makes each frame from those before it."""
    return hasattr(model, "extend")


def _check_extends(mask: np.ndarray, scheme: Any, condition: Any) -> int:
    """Returns the number of given frames, for a network that extends videos."""
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


def _extended(
    key: jax.Array,
    model: nnx.Module,
    settings: Settings,
    process: processes.Process,
    clips: np.ndarray,
    given: int,
) -> np.ndarray:
    """Fills clips, (B, T, H, W, C) in [-1, 1], after their given frames."""
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


def _given(model: Any, frames, observed, length, size):
    """Returns the video with what is given in place, the mask, and the task."""
    channels = model.config.channels
    if frames is None:
        if observed is not None and not isinstance(observed, str):
            raise ValueError("`observed` needs `frames`: there is nothing to observe")
        side = getattr(model.config, "image_size", None)
        size = size or (side and (side, side))
        length = length or getattr(model.config, "num_frames", None)
        if not size or not length:
            raise ValueError("give `length` and `size`: the model has none of its own")
        frames, observed = np.zeros((0, *size, channels), np.float32), "future"
    frames = np.asarray(frames)
    if frames.ndim != 4 or frames.shape[-1] != channels:
        raise ValueError(
            f"`frames` must be (T, H, W, {channels}) for this model; got {frames.shape}"
        )
    if frames.dtype != np.uint8 and frames.dtype.kind != "f":
        raise ValueError(f"`frames` must be uint8 or floating; got {frames.dtype}")
    multiple = model.multiple
    if any(side % multiple or not side for side in frames.shape[1:3]):
        raise ValueError(
            f"`frames` must have height and width that are multiples of {multiple}; "
            f"got {frames.shape[1:3]}: resize or crop them"
        )
    if observed is None:
        observed = "future"
    if isinstance(observed, str):
        video, mask = _placed(observed, frames, length)
    else:
        video, mask = frames, np.asarray(observed)
        if mask.shape != frames.shape[:1] or length not in (None, len(frames)):
            raise ValueError(
                f"`observed` must be ({len(frames)},), and `length` {len(frames)}, for "
                f"that many frames; got {mask.shape} and {length}"
            )
        if not np.isin(mask, (0, 1)).all():
            raise ValueError(f"`observed` must be of 0 and 1; got {np.unique(mask)}")
        mask = mask.astype(bool)
        observed = "any"
    if mask.all():
        raise ValueError(
            f"all {len(mask)} frames are given: give a larger `length`, or `observed`"
        )
    seen = video[mask]
    if video.dtype != np.uint8 and not (
        np.isfinite(seen).all()
        and (not seen.size or (seen.min() >= 0 and seen.max() <= 1))
    ):
        raise ValueError(
            "observed `frames` must be finite, in [0, 1]; divide 8-bit values by 255"
        )
    if video.dtype != np.uint8:
        video = video.astype(np.float32)
    return video, mask, observed


def _placed(task: str, frames: np.ndarray, length: int | None):
    """Puts given frames where a task has them."""
    _checks.one_of("observed", task, masks.TASKS)
    length = len(frames) if length is None else length
    if task == "unconditional":
        frames = frames[:0]
    elif length <= len(frames):
        raise ValueError(
            f"`length` must be more than the {len(frames)} given frames; got {length}"
        )
    mask = places(cast(masks.Task, task), length, len(frames))
    video = np.zeros((length, *frames.shape[1:]), frames.dtype)
    video[mask] = frames
    return video, mask


def _unit(video: np.ndarray) -> np.ndarray:
    """Brings a video to [0, 1]."""
    return video / np.float32(255) if video.dtype == np.uint8 else video


def _settings(model: Any, settings: Settings | None, conditional: bool) -> Settings:
    trained = "observed" in model.takes
    if settings is None:
        settings = default_settings(model, conditional=conditional)
    _checks.one_of("settings.sampler", settings.sampler, SAMPLERS)
    _checks.one_of("settings.conditioning", settings.conditioning, CONDITIONINGS)
    if _extends(model) and settings.conditioning != "network":
        raise ValueError(
            "this network follows the frames before by itself: use the conditioning "
            "'network'"
        )
    trained = trained or _extends(model)
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


def _condition(model: Any, condition: np.ndarray) -> jax.Array:
    """Returns the condition of one video, (1, ...)."""
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


def _process(model: Any, process: processes.Process | None) -> processes.Process:
    process = getattr(model, "process", None) if process is None else process
    if process is None:
        raise ValueError(
            "this network does not say what noise it was trained with: give `process`, "
            "a `jaxflow.diffusion.process.Process`"
        )
    return process


def _stages(
    model: Any, mask: np.ndarray, task: str, scheme: Any, most: int
) -> list[long_video.Stage]:
    """Plans the stages of a video."""
    length, numbered = len(mask), "indices" in model.takes
    if scheme is not None:
        _checks.one_of("scheme", scheme, long_video.SCHEMES)
    ordered = task in ("future", "past", "unconditional")
    if scheme is not None and not ordered:
        raise ValueError(
            f"`scheme` is for frames given at one end; got {scheme!r} for {task!r}"
        )
    if not numbered and scheme not in (None, "autoreg"):
        raise ValueError(
            f"`scheme` {scheme!r} needs a network that is told the numbers of frames; "
            "this one takes 'autoreg'"
        )
    slots = getattr(model, "generates", None)
    new = None if slots is None else len(slots)
    if length <= most or not ordered:
        stages = long_video.between(mask, most=most, new=new if new != most else None)
    else:
        scheme = scheme or ("hierarchy-2" if numbered else "autoreg")
        given = int(mask.sum())
        stages = long_video.schedule(scheme, length, given=given, most=most, new=new)
    if length > most and task == "past":
        stages = [
            long_video.Stage(
                [length - 1 - i for i in stage.observed],
                sorted(length - 1 - i for i in stage.latent),
            )
            for stage in stages
        ]
    if slots is not None:
        for stage in stages:
            _check_slots(stage, slots, model.config.num_frames)
    return stages


def _check_slots(
    stage: long_video.Stage, slots: tuple[int, ...], num_frames: int
) -> None:
    """Raises if a network that generates certain frames of a clip cannot do a stage."""
    frames = sorted({*stage.observed, *stage.latent})
    places = tuple(frames.index(frame) for frame in stage.latent)
    if places != slots or len(frames) != num_frames:
        raise ValueError(
            f"this network generates frames {slots[0]} to {slots[-1]} of {num_frames}, "
            f"from the {num_frames - len(slots)} others: it cannot generate "
            f"{stage.latent} from {sorted(stage.observed)}; give it as many frames, "
            f"and a `length` of these and a multiple of {len(slots)}"
        )
