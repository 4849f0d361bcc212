"""Videos out of a diffusion network, in one call.

    video = jaxflow.generate(model, frames, observed=mask)

Videos are (T, H, W, C): uint8, or floating in [0, 1]; networks see [-1, 1].
"""

from jaxflow.generation.clips import clip_sampler as clip_sampler
from jaxflow.generation.given import places as places
from jaxflow.generation.settings import CONDITIONINGS as CONDITIONINGS
from jaxflow.generation.settings import SAMPLERS as SAMPLERS
from jaxflow.generation.settings import Conditioning as Conditioning
from jaxflow.generation.settings import Settings as Settings
from jaxflow.generation.settings import default_settings as default_settings
from jaxflow.generation.videos import generate as generate
