"""What generation networks verify of what they are given, and do with it first."""

import itertools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp


def check_inputs(
    model: Any,
    noisy: jax.Array,
    time: jax.Array,
    clean: jax.Array | None,
    observed: jax.Array | None,
    latent: jax.Array | None,
    indices: jax.Array | None,
    *,
    num_frames: int | None = None,
) -> tuple[jax.Array, jax.Array | None]:
    """Verifies what a network is called with, but for what conditions it.

    Args:
        model: The network; it says `config.channels`, `multiple` and what it `takes`.
        noisy: As for `check_noisy`.
        time: As for `check_noisy`.
        clean: As for `check_companions`, and so are the next three.
        observed: Which frames are given.
        latent: Which frames are generated.
        indices: Numbers of the frames.
        num_frames: As for `check_noisy`.

    Returns:
        `noisy` and `clean`, in float32.

    Raises:
        ValueError: As `check_noisy` and `check_companions`.
    """
    check_noisy(
        noisy,
        time,
        channels=model.config.channels,
        multiple=model.multiple,
        num_frames=num_frames,
    )
    check_companions(
        noisy,
        clean=clean,
        observed=observed,
        latent=latent,
        indices=indices,
        takes=model.takes,
    )
    clean = None if clean is None else clean.astype(jnp.float32)
    return noisy.astype(jnp.float32), clean


def check_noisy(
    noisy: jax.Array,
    time: jax.Array,
    *,
    channels: int,
    multiple: int = 1,
    num_frames: int | None = None,
) -> None:
    """Verifies what every generation network is given, at trace time.

    Args:
        noisy: The noisy clip; must be (B, T, H, W, channels) and floating.
        time: Diffusion time; must be (B,) and real.
        channels: Channels that the network takes.
        multiple: Height and width must be multiples of this.
        num_frames: Frames that the network takes; None is any number from 1.

    Raises:
        ValueError: If a shape, a size or a type is not what the network takes.
    """
    if noisy.ndim != 5 or noisy.shape[-1] != channels:
        raise ValueError(f"`noisy` must be (B, T, H, W, {channels}); got {noisy.shape}")
    if not jnp.issubdtype(noisy.dtype, jnp.floating):
        raise ValueError(f"`noisy` must be floating, in [-1, 1]; got {noisy.dtype}")
    batch, frames, height, width, _ = noisy.shape
    if height % multiple or width % multiple or 0 in noisy.shape:
        raise ValueError(
            f"`noisy` must have height and width that are multiples of {multiple}; got "
            f"{(height, width)}: resize or crop it"
        )
    if num_frames is not None and frames != num_frames:
        raise ValueError(f"`noisy` must have {num_frames} frames; got {frames}")
    if time.shape != (batch,):
        raise ValueError(
            f"`time` must be ({batch},), one number a clip; got {time.shape}"
        )
    if not (
        jnp.issubdtype(time.dtype, jnp.floating)
        or jnp.issubdtype(time.dtype, jnp.integer)
    ):
        raise ValueError(f"`time` must be a real number a clip; got {time.dtype}")


def check_companions(
    noisy: jax.Array,
    *,
    clean: jax.Array | None = None,
    observed: jax.Array | None = None,
    latent: jax.Array | None = None,
    indices: jax.Array | None = None,
    takes: tuple[str, ...] = (),
) -> None:
    """Verifies what comes with a noisy clip, at trace time; None is always right.

    Args:
        noisy: The noisy clip, (B, T, H, W, C), verified already.
        clean: The clip without noise; must be like `noisy`.
        observed: Which frames are given; must be (B, T).
        latent: Which frames are generated; must be (B, T).
        indices: Numbers of the frames; must be (B, T).
        takes: Those of the four that the network uses.

    Raises:
        ValueError: If one is given that the network cannot use, or of another shape.
    """
    given = {
        "clean": clean,
        "observed": observed,
        "latent": latent,
        "indices": indices,
    }
    for name, value in given.items():
        if value is None:
            continue
        if name not in takes:
            usable = ", ".join(takes) or "none of them"
            raise ValueError(
                f"this network cannot use `{name}`: it takes {usable} of "
                f"{', '.join(given)}; leave it None"
            )
        shape = noisy.shape if name == "clean" else noisy.shape[:2]
        if value.shape != shape:
            raise ValueError(f"`{name}` must be {shape}; got {value.shape}")
    if clean is not None and not jnp.issubdtype(clean.dtype, jnp.floating):
        raise ValueError(f"`clean` must be floating, in [-1, 1]; got {clean.dtype}")


def check_classes(
    classes: jax.Array | None, batch: int, num_classes: int | None
) -> None:
    """Verifies the classes that condition a network, at trace time.

    Args:
        classes: Given as `condition`; must be (B,) integers if the network has classes,
            and None otherwise.
        batch: Number of clips B.
        num_classes: Number of classes of the network, or None.

    Raises:
        ValueError: If there are classes and should be none, or the other way round, or
            they have another shape or type.
    """
    if num_classes is None:
        if classes is not None:
            raise ValueError(
                "this network takes no `condition`: its config's `num_classes` is None"
            )
        return
    if classes is None:
        raise ValueError(
            f"`condition` must be the class of each clip, ({batch},) of 0 to "
            f"{num_classes - 1}; got None"
        )
    if classes.shape != (batch,) or not jnp.issubdtype(classes.dtype, jnp.integer):
        raise ValueError(
            f"`condition` must be the class of each clip, ({batch},) of 0 to "
            f"{num_classes - 1}; got {classes.dtype}{classes.shape}"
        )


def paste(
    noisy: jax.Array, clean: jax.Array | None, observed: jax.Array | None
) -> jax.Array:
    """Puts clean frames in the place of noisy ones where they are observed.

    Args:
        noisy: (B, T, H, W, C).
        clean: Like `noisy`, or None with `observed`.
        observed: (B, T), true or 1 where a frame is given.

    Raises:
        ValueError: If one of the two is given without the other.
    """
    check_together(clean, observed)
    if clean is None or observed is None:
        return noisy
    given = observed.astype(bool)[..., None, None, None]
    return jnp.where(given, clean.astype(noisy.dtype), noisy)


def check_together(clean: jax.Array | None, observed: jax.Array | None) -> None:
    """Raises ValueError if one of `clean` and `observed` is given without the other."""
    if (clean is None) != (observed is None):
        given, other = ("observed", "clean") if clean is None else ("clean", "observed")
        raise ValueError(f"`{given}` needs `{other}`: give both or neither")


def draws(key: jax.Array | None) -> Iterator[jax.Array | None]:
    """Gives one key after the other, for the dropouts of a network; or always None."""
    for index in itertools.count():
        yield None if key is None else jax.random.fold_in(key, index)
