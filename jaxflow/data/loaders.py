"""Grain loaders: shuffled, augmented batches of a data source, which can be resumed.

Grain is an extra, and is imported when a loader is made. Batches are NumPy arrays:
nothing here needs JAX.
"""

import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxflow import _checks, io


def flow_loader(
    source: Sequence[Mapping[str, Any]],
    *,
    batch_size: int = 8,
    crop: tuple[int, int] | None = None,
    seed: int = 0,
    shuffle: bool = True,
    epochs: int | None = None,
    shard: tuple[int, int] = (0, 1),
    workers: int = 0,
    keep_rest: bool = False,
    uint8: bool = False,
):
    """Makes a loader of pairs with flow.

    The order and the crops follow from `seed` alone, not from the number of workers.
    An iterator's ``get_state()`` and ``set_state()`` save and restore its position
    exactly; the number of workers must then be the same.

    Args:
        source: A sequence of elements with ``image1`` and ``image2``, (H, W, 3) uint8
            or uint16, each scaled by its own type, or float in [0, 1]; and ``flow``,
            (H, W, 2); such as ``builder.as_data_source("train")``.
        batch_size: Pairs in a batch, of this process.
        crop: Height and width to cut out, at a random place; None takes whole frames,
            which must then have one size.
        seed: Decides order and crops.
        shuffle: Whether to shuffle; each epoch has its own order.
        epochs: How many times to go through the source; None never ends.
        shard: This process and the number of processes; each sees its own pairs.
        workers: Processes that read; 0 reads in this one.
        keep_rest: Whether what does not fill the last batch makes a smaller one, as an
            evaluation of every pair needs, or is dropped, as training needs.
        uint8: Whether images are uint8, a quarter of the bytes on the way to the
            device, for `augment.augment_batch`. Others are rounded to 8 bits.

    Returns:
        A `grain.IterDataset` of dicts: images (B, h, w, 3) float32 in [0, 1], flow
        (B, h, w, 2) float32 in pixels; other entries are stacked as they are.

    Raises:
        ValueError: If a number is out of range, the shard has fewer pairs than a batch,
            or a frame is smaller than the crop.
        ImportError: If Grain is not installed.
    """
    return batches(
        source,
        lambda element, rng: _prepare(element, rng, crop, uint8),
        batch_size=batch_size,
        seed=seed,
        shuffle=shuffle,
        epochs=epochs,
        shard=shard,
        workers=workers,
        keep_rest=keep_rest,
    )


def batches(
    source: Sequence[Mapping[str, Any]],
    prepare: Callable[[Mapping[str, Any], np.random.Generator], dict[str, Any]],
    *,
    batch_size: int,
    seed: int,
    shuffle: bool,
    epochs: int | None,
    shard: tuple[int, int],
    workers: int,
    keep_rest: bool = False,
):
    """Shuffles, repeats, prepares and batches the elements of a source.

    Args:
        source: A sequence of elements.
        prepare: (element, generator) -> dict of arrays of one shape for all elements.
        batch_size: Elements in a batch, of this process.
        seed: Decides the order, and what `prepare` draws.
        shuffle: Whether to shuffle; each epoch has its own order.
        epochs: How many times to go through the source; None never ends.
        shard: This process and the number of processes; each sees its own elements.
        workers: Processes that prepare; 0 prepares in this one.
        keep_rest: Whether what is left over in the end is a smaller batch, or dropped.

    Returns:
        A `grain.IterDataset` of dicts of stacked arrays.

    Raises:
        ValueError: If a number is out of range, or the shard has fewer elements than a
            batch.
        ImportError: If Grain is not installed.
    """
    _checks.positive("batch_size", batch_size)
    _checks.seed("seed", seed, signed=False)
    index, count = shard
    if not 0 <= index < count:
        raise ValueError(f"`shard` must be (process, processes); got {shard!r}")
    available = len(range(index, len(source), count))
    if keep_rest and epochs != 1:
        raise ValueError(f"`keep_rest` goes through a source once; got {epochs=}")
    if available < (1 if keep_rest else batch_size):
        raise ValueError(
            f"`batch_size` is {batch_size}, but the source has {available} elements "
            f"for shard {shard}"
        )
    grain = _import_grain()
    data = grain.MapDataset.source(source)[index::count].seed(seed)
    if shuffle:
        data = data.shuffle()
    data = data.repeat(epochs).random_map(prepare)
    data = data.batch(batch_size, drop_remainder=not keep_rest).to_iter_dataset()
    if workers:
        options = grain.MultiprocessingOptions(num_workers=workers)
        data = data.mp_prefetch(options, worker_init_fn=_leave_interrupts)
    return data


def _leave_interrupts(*_: int) -> None:
    """Lets the process that reads from this worker deal with Ctrl-C, which ends both.

    A terminal sends it to all of them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def random_crop(
    element: Mapping[str, Any], size: tuple[int, int], rng: np.random.Generator
) -> dict[str, Any]:
    """Cuts one window out of every array of an element that has rows and columns.

    Args:
        element: Arrays of one height and width, (H, W, ...), and other entries of fewer
            axes, which pass.
        size: Height and width of the window.
        rng: Decides the place, uniformly.

    Returns:
        A copy of the element; arrays are views of the given ones.

    Raises:
        ValueError: If the frame is smaller than the window.
    """
    height, width = np.shape(element["image1"])[:2]
    if height < size[0] or width < size[1]:
        raise ValueError(
            f"`crop` {tuple(size)} is larger than a frame of {(height, width)}"
        )
    top = int(rng.integers(height - size[0] + 1))
    left = int(rng.integers(width - size[1] + 1))
    window = np.s_[top : top + size[0], left : left + size[1]]
    return {
        name: value[window] if np.ndim(value) > 1 else value
        for name, value in element.items()
    }


def _prepare(element, rng, crop, uint8):
    """Crops an element and turns its images to floats, or to 8 bits."""
    element = dict(element) if crop is None else random_crop(element, crop, rng)
    for name in ("image1", "image2"):
        if not (uint8 and element[name].dtype == np.uint8):
            element[name] = io.as_float(element[name], name=name)
            if uint8:
                element[name] = to_uint8(element[name])
    return element


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Rounds values in [0, 1] to 8 bits; what lies outside is clipped."""
    return np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)


def _import_grain():
    """Imports Grain, ready for worker processes."""
    try:
        import grain
        from absl import flags
    except Exception as error:
        raise _checks.cannot_import("Grain", "data", error) from error
    # Workers read absl flags, which nobody has parsed outside an absl program.
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    return grain
