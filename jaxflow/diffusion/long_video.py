"""Videos longer than a network takes: which frames to generate next, and given which.

Harvey et al., "Flexible Diffusion Modeling of Long Videos" (2022), Sec. 3 and 4. A
schedule is a list of `Stage`s; each observes frames that are done and generates others.
"""

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from jaxflow import _checks

Scheme = Literal["autoreg", "long-range", "hierarchy-2", "hierarchy-3"]
SCHEMES = ("autoreg", "long-range", "hierarchy-2", "hierarchy-3")
Sample = Callable[[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]


class Stage(NamedTuple):
    """One call of the model.

    Attributes:
        observed: Numbers of the frames that it is given, in the official order.
        latent: Numbers of the frames that it generates, ascending.
    """

    observed: list[int]
    latent: list[int]


def schedule(
    scheme: Scheme,
    length: int,
    *,
    given: int,
    most: int,
    new: int | None = None,
) -> list[Stage]:
    """Plans how to generate a video whose first frames are given.

    "autoreg" observes the frames just before; "long-range" half of those and half of
    the given ones; "hierarchy-n" generates frames over the whole length first, and in
    n - 1 further passes those between them. A given frame may be listed twice, as in
    the official code, where fewer are given than a stage observes.

    Args:
        scheme: See above.
        length: Frames of the video.
        given: Number of frames given at its start; with 0 the first stage generates
            `most` frames from nothing.
        most: Frames that the model takes at once.
        new: Frames that a stage generates at most; None is half of `most`.

    Raises:
        ValueError: If there is no such scheme, or the numbers leave it nothing to
            observe or to generate.
    """
    _checks.one_of("scheme", scheme, SCHEMES)
    new = most // 2 if new is None else new
    _check_numbers(scheme, length, given, most, new)
    done = set(range(given))
    stages = []
    if given == 0:
        first = _first_frames(scheme, length, most)
        stages.append(Stage([], first))
        done |= set(first)
    if len(done) == length:
        return stages
    plan = {"autoreg": _autoregressive, "long-range": _long_range}.get(scheme)
    if plan is None:
        stages += _hierarchy(int(scheme[-1]), length, done, most, new, given > 0)
    else:
        stages += plan(length, done, most, new)
    return stages


def _check_numbers(scheme: str, length: int, given: int, most: int, new: int) -> None:
    if not 0 <= given < length:
        raise ValueError(
            f"`given` must leave frames to generate: 0 ... {length - 1} of `length` "
            f"{length}; got {given}"
        )
    observes = {"autoreg": 1, "long-range": 2}.get(scheme, 2)
    least = 1 if scheme in ("autoreg", "long-range") else 2
    if not least <= new <= most - observes:
        raise ValueError(
            f"`new` must be in {least} ... {most - observes} for {scheme!r} and `most` "
            f"{most}, of which it has to observe {observes}; got {new}"
        )


def _first_frames(scheme: str, length: int, most: int) -> list[int]:
    most = min(most, length)
    if scheme.startswith("hierarchy"):
        return [int(i) for i in np.linspace(0, length - 1, most)]
    return list(range(most))


def _autoregressive(length: int, done: set[int], most: int, new: int):
    """Yields stages that observe the newest frames."""
    ready = sorted(done)
    for start in range(ready[-1] + 1, length, new):
        latent = list(range(start, min(start + new, length)))
        yield Stage(ready[new - most :], latent)
        ready += latent


def _long_range(length: int, done: set[int], most: int, new: int):
    """Yields stages that observe the newest frames, and the last that were given."""
    origin, ready = sorted(done, reverse=True), sorted(done)
    count = most - new
    for start in range(ready[-1] + 1, length, new):
        latent = list(range(start, min(start + new, length)))
        seen = set(ready[-(count // 2) :])
        for frame in origin:
            seen.add(frame)
            if len(seen) == count:
                break
        yield Stage(sorted(seen), latent)
        ready += latent


def _hierarchy(
    levels: int, length: int, done: set[int], most: int, new: int, conditional: bool
) -> Iterator[Stage]:
    """Yields stages from coarse to fine."""
    origin = sorted(done)
    if conditional:
        latent = _spread(origin[-1] + 1, length - 0.001, min(new, length - len(done)))
        latent = sorted(set(latent))
        yield Stage(_spread(0, origin[-1] + 0.999, most - new), latent)
        done |= set(latent)
    newest, level = length - 1, 1
    while len(done) < length:
        stage, level = _next_stage(
            levels, level, length, newest, done, len(origin), most, new
        )
        yield stage
        done |= set(stage.latent)
        newest = stage.latent[-1]


def _spread(first: float, last: float, count: int) -> list[int]:
    return [int(i) for i in np.linspace(first, last, count)]


def _next_stage(
    levels: int,
    level: int,
    length: int,
    newest: int,
    done: set[int],
    given: int,
    most: int,
    new: int,
) -> tuple[Stage, int]:
    """Returns the next stage behind frame `newest`, and its level.

    Where frames between the new ones leave fewer than two to observe around them, it
    tries again with fewer new ones.
    """
    while True:
        stride = _stride(levels, level, length, given, new)
        start = newest + stride
        if all(i in done for i in range(start, length)):
            level, newest = level + 1, 0
            stride = _stride(levels, level, length, given, new)
            start = min(set(range(length)) - done) - 1 + stride
        latent = _grid(start, stride, length, done, new)
        between = [i for i in range(latent[0], latent[-1]) if i in done]
        room = most - new - len(between)
        if room >= 2:
            return Stage(between + _around(latent, done, room), latent), level
        if new == 1:
            raise ValueError(
                f"`most` {most} frames at once are too few for this hierarchy: a "
                "frame needs two others around it"
            )
        new -= 1


def _stride(levels: int, level: int, length: int, given: int, new: int) -> int:
    """Returns the distance of the new frames of a level; 1 at the finest."""
    if level >= levels or new == 1:
        return 1
    coarse = (length - given) / (new - 1)
    return max(1, int(coarse ** ((levels - level) / (levels - 1))))


def _grid(start: int, stride: int, length: int, done: set[int], new: int) -> list[int]:
    """Returns `new` frames from `start` on, at that distance, past those done."""
    latent: list[int] = []
    while len(latent) < new and start < length:
        if start in done:
            start += 1
        else:
            latent.append(start)
            start += stride
    return latent


def _around(latent: list[int], done: set[int], room: int) -> list[int]:
    """Returns done frames behind and before the new ones, the nearest first."""
    after = sorted(i for i in done if i > latent[-1])[: room // 2]
    before = sorted((i for i in done if i < latent[0]), reverse=True)
    return after + before[: room - len(after)]


def between(
    observed: npt.ArrayLike, *, most: int, new: int | None = None
) -> list[Stage]:
    """Plans how to generate the missing frames of a video, whichever are given.

    From the first on, `new` missing frames are generated at a time, given the nearest
    done frames behind and before them.

    Args:
        observed: Which frames are given, (T,) bool.
        most: Frames that the model takes at once.
        new: Frames that a stage generates at most; None is half of `most`, or all that
            are missing if they and the given ones fit.

    Raises:
        ValueError: If all frames are given, or `new` leaves nothing to observe.
    """
    observed = np.asarray(observed, bool)
    missing = np.flatnonzero(~observed).tolist()
    done = set(np.flatnonzero(observed).tolist())
    if not missing:
        raise ValueError("`observed` must leave frames to generate; all are given")
    if new is None:
        new = len(missing) if len(observed) <= most else max(most // 2, 1)
    elif not 1 <= new < most:
        raise ValueError(f"`new` must be in 1 ... {most - 1}; got {new}")
    stages = []
    if not done and len(missing) > most:
        stages.append(Stage([], missing[:most]))
        done, missing = set(missing[:most]), missing[most:]
    for start in range(0, len(missing), new):
        latent = missing[start : start + new]
        inner = [i for i in range(latent[0], latent[-1]) if i in done]
        room = most - len(latent) - len(inner)
        while room < 0:
            # Far-spread frames have too many between them: the last ones that fit.
            inner, room = inner[1:], room + 1
        stages.append(Stage(sorted({*inner, *_around(latent, done, room)}), latent))
        done |= set(latent)
    return stages


def fill(
    key: jax.Array,
    sample: Sample,
    video: npt.ArrayLike,
    stages: list[Stage],
    *,
    most: int,
    pads: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Generates the missing frames of a video, stage by stage.

    Every stage shows the model `most` frames, in the order of their numbers, so that it
    is compiled once: a frame that a stage lists twice is shown once, and places left
    over are padding. Frames that no stage generates are returned bit for bit.

    Args:
        key: Random key; stage i uses it folded with i.
        sample: (key, clean, observed, latent, indices) -> clip, where clean is
            (B, K, ...) with zeros at frames still to come, the masks are (B, K), and
            indices (B, K) int32 the numbers of the frames.
        video: (B, T, ...), given frames in place; what others hold has no effect.
        stages: From `schedule`, or by hand.
        most: K, frames that the model takes at once.
        pads: Whether clips are padded to K; for a model that cannot tell padding they
            must not be, and every length is compiled anew.
        progress: Called with (stages done, stages in all) after each.

    Returns:
        The video, (B, T, ...).

    Raises:
        ValueError: If a stage has more than `most` frames, or observes frames that are
            to come.
    """
    filled = np.array(video)
    _check_stages(stages, filled.shape[1], most)
    for frame in {i for stage in stages for i in stage.latent}:
        filled[:, frame] = 0
    for number, stage in enumerate(stages):
        frames = sorted({*stage.observed, *stage.latent})
        padding = most - len(frames) if pads else 0
        indices = np.array(frames + padding * [0], np.int32)
        rows = (filled.shape[0], len(indices))
        real = np.arange(len(indices)) < len(frames)
        new = np.isin(indices, stage.latent) & real
        clip = sample(
            jax.random.fold_in(key, number),
            jnp.asarray(filled[:, indices]),
            jnp.asarray(np.broadcast_to(np.float32(real & ~new), rows)),
            jnp.asarray(np.broadcast_to(np.float32(new), rows)),
            jnp.asarray(np.broadcast_to(indices, rows)),
        )
        filled[:, indices[new]] = np.asarray(clip)[:, new]
        if progress is not None:
            progress(number + 1, len(stages))
    return filled


def _check_stages(stages: list[Stage], length: int, most: int) -> None:
    to_come = {i for stage in stages for i in stage.latent}
    for number, stage in enumerate(stages):
        used = {*stage.observed, *stage.latent}
        if len(used) > most or not used <= set(range(length)):
            raise ValueError(
                f"stage {number} of `stages` has {len(used)} frames, {sorted(used)}; "
                f"the model takes {most}, of a video of {length}"
            )
        if early := to_come & set(stage.observed):
            raise ValueError(
                f"stage {number} of `stages` observes frames {sorted(early)} before "
                "they are generated"
            )
        to_come -= set(stage.latent)
