"""The published sets of augmentations of pairs of frames with flow."""

import dataclasses
import math
from typing import Literal

from jaxflow.data import photometric
from jaxflow.data.augment_maps import Affine, ScaleAndCrop

Lookup = Literal["nearest", "bilinear", "sparse"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """What `jaxflow.data.augment` does.

    Attributes:
        geometry: Ranges of the maps.
        colour: Ranges of the colour changes.
        noise: Largest standard deviation of the noise that is added.
        erase: Probability that one or two boxes of frame 2 are painted over.
        lookup: How flow is read between pixels: "nearest" never mixes two motions;
            "bilinear" is exact for a motion that is affine in the position; "sparse"
            carries every known pixel of a laser scanner to the one nearest to where it
            goes, and no other pixel knows its flow.
    """

    geometry: Affine | ScaleAndCrop
    colour: photometric.Chroma | photometric.Jitter | None
    noise: float = 0.0
    erase: float = 0.0
    lookup: Lookup = "nearest"


_SPARSE_COLOUR = photometric.Jitter(
    brightness=0.3, contrast=0.3, saturation=0.3, hue=0.3 / math.pi, asymmetric=0.0
)
RECIPES = {
    "flownet": Recipe(geometry=Affine(), colour=photometric.Chroma(), noise=0.06),
    "raft_chairs": Recipe(
        geometry=ScaleAndCrop(), colour=photometric.Jitter(), erase=0.5
    ),
    "raft_things": Recipe(
        geometry=ScaleAndCrop(scale=(-0.4, 0.8)), colour=photometric.Jitter(), erase=0.5
    ),
    "raft_sintel": Recipe(
        geometry=ScaleAndCrop(scale=(-0.2, 0.6)), colour=photometric.Jitter(), erase=0.5
    ),
    # Sparse flow: no stretching, no asymmetric colours. Alone, KITTI is not mirrored.
    "raft_kitti": Recipe(
        geometry=ScaleAndCrop(
            scale=(-0.2, 0.4), stretch=0.0, flip_horizontal=0.0, flip_vertical=0.0
        ),
        colour=_SPARSE_COLOUR,
        erase=0.5,
        lookup="sparse",
    ),
    "raft_sintel_kitti": Recipe(
        geometry=ScaleAndCrop(scale=(-0.3, 0.5), stretch=0.0, flip_vertical=0.0),
        colour=_SPARSE_COLOUR,
        erase=0.5,
        lookup="sparse",
    ),
    "raft_sintel_hd1k": Recipe(
        geometry=ScaleAndCrop(scale=(-0.5, 0.2), stretch=0.0, flip_vertical=0.0),
        colour=_SPARSE_COLOUR,
        erase=0.5,
        lookup="sparse",
    ),
}
"""The published sets of augmentations, by name.

The last two are those of the sparse sets that RAFT mixes with Sintel.
"""
