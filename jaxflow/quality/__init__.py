"""How near a generated video is to the true one, and what guessing simply would give.

Everything is computed on the host in float64, as scikit-image and SciPy do. A video is
(*B, H, W, C); a NaN pixel makes the measures of its frame NaN.
"""

from jaxflow.quality.consistency import temporal_consistency as temporal_consistency
from jaxflow.quality.frechet import Statistics as Statistics
from jaxflow.quality.frechet import frechet_distance as frechet_distance
from jaxflow.quality.frechet import frechet_of as frechet_of
from jaxflow.quality.frechet import gather as gather
from jaxflow.quality.frechet import merge as merge
from jaxflow.quality.guesses import copy_nearest as copy_nearest
from jaxflow.quality.guesses import linear_blend as linear_blend
from jaxflow.quality.similarity import of_samples as of_samples
from jaxflow.quality.similarity import psnr as psnr
from jaxflow.quality.similarity import ssim as ssim
from jaxflow.quality.similarity import ssim_map as ssim_map
