"""What scenes of `jaxflow.data.synthetic` are drawn from: how their layers move.

Displacements follow the recipe of Dosovitskiy et al., "FlowNet" (2015), supplement,
and Ilg et al., "FlowNet 2.0" (2017).
"""

import dataclasses
import math


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spread:
    """A heavy-tailed random number: 0, or sign(g) |g|^power with g ~ N(0, sigma^2).

    Attributes:
        sigma: Standard deviation of g.
        power: Exponent; the larger, the heavier the tail.
        limit: Largest magnitude; beyond it the number is clipped.
        probability: How often the number is not 0.
    """

    sigma: float = 0.0
    power: float = 1.0
    limit: float = math.inf
    probability: float = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Motion:
    """How a layer moves from frame 1 to frame 2.

    Attributes:
        translation: Along each axis, in pixels of a 384x512 frame.
        rotation: About the layer's centre, in degrees.
        zoom: Logarithm of the scale.
        tilt: Out of the image plane, about each axis, in degrees: the perspective
            terms of a homography whose focal length is the frame's longer side.
    """

    translation: Spread = Spread()
    rotation: Spread = Spread()
    zoom: Spread = Spread()
    tilt: Spread = Spread()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a scene is drawn from.

    Attributes:
        background: Motion of the background.
        objects: Motion of each object, relative to the background's.
        count: Smallest and largest number of objects.
        diameter: Mean, standard deviation, smallest and largest size of an object, in
            pixels of a 384x512 frame.
        flat: Probability that a layer is almost without texture.
        slender: Probability that an object is three to eight times as long as wide.
        pictures: Probability that a layer is painted with a picture, if there are any.
        scaled: Whether translations shrink with the frame, as sizes do. If not, they
            are pixels of the frame that is drawn.
    """

    background: Motion
    objects: Motion
    count: tuple[int, int] = (3, 8)
    diameter: tuple[float, float, float, float] = (200.0, 200.0, 50.0, 640.0)
    flat: float = 0.0
    slender: float = 0.0
    pictures: float = 0.75
    scaled: bool = True


# "chairs" is fitted to the motion of real FlyingChairs pairs: mean 8.8 px, quantiles
# 2.9 (half), 10.1 (three quarters), 27 (95 %) and 59 px (99 %).
PRESETS = {
    "translation": Recipe(
        background=Motion(translation=Spread(sigma=16.0, limit=40.0)),
        objects=Motion(translation=Spread(sigma=8.0, limit=24.0)),
        count=(1, 4),
    ),
    "chairs": Recipe(
        background=Motion(
            translation=Spread(sigma=0.75, power=1.3, limit=40.0),
            rotation=Spread(sigma=0.85, power=2, limit=10.0, probability=0.5),
            zoom=Spread(sigma=0.07, power=1.5, limit=0.07, probability=0.6),
        ),
        objects=Motion(
            translation=Spread(sigma=2.75, power=1.8, limit=120.0),
            rotation=Spread(sigma=3.0, power=2, limit=30.0, probability=0.7),
            zoom=Spread(sigma=0.18, power=1.5, limit=0.2, probability=0.7),
        ),
        diameter=(142.0, 112.0, 50.0, 640.0),
    ),
    "things": Recipe(
        background=Motion(
            translation=Spread(sigma=2.2, power=2, limit=60.0),
            rotation=Spread(sigma=1.2, power=2, limit=15.0, probability=0.7),
            zoom=Spread(sigma=0.04, limit=0.15),
            tilt=Spread(sigma=2.0, limit=6.0),
        ),
        objects=Motion(
            translation=Spread(sigma=3.2, power=2, limit=160.0),
            rotation=Spread(sigma=2.5, power=2, limit=45.0),
            zoom=Spread(sigma=0.1, limit=0.35),
            tilt=Spread(sigma=6.0, limit=15.0),
        ),
        count=(6, 12),
    ),
    "sdhom": Recipe(
        background=Motion(translation=Spread(sigma=0.5, power=2, limit=4.0)),
        objects=Motion(
            translation=Spread(sigma=0.5, power=2, limit=4.0),
            rotation=Spread(sigma=0.4, power=2, limit=3.0, probability=0.3),
            zoom=Spread(sigma=0.01, limit=0.03, probability=0.3),
        ),
        flat=0.5,
        scaled=False,
    ),
    # Much of the world stands still, and what moves may cross a quarter of the frame.
    "world": Recipe(
        background=Motion(
            translation=Spread(sigma=1.6, power=1.8, limit=50.0, probability=0.75),
            rotation=Spread(sigma=1.0, power=1.5, limit=10.0, probability=0.6),
            zoom=Spread(sigma=0.03, power=1.2, limit=0.12, probability=0.6),
            tilt=Spread(sigma=1.5, limit=5.0, probability=0.5),
        ),
        objects=Motion(
            translation=Spread(sigma=2.1, power=1.9, limit=60.0, probability=0.85),
            rotation=Spread(sigma=2.2, power=1.8, limit=30.0, probability=0.7),
            zoom=Spread(sigma=0.06, power=1.3, limit=0.25, probability=0.7),
            tilt=Spread(sigma=4.0, limit=12.0, probability=0.5),
        ),
        count=(2, 9),
        diameter=(150.0, 110.0, 24.0, 500.0),
        flat=0.1,
        slender=0.2,
        scaled=False,
    ),
}
