"""Diffusion of videos as pure functions of arrays: one topic a file.

Videos are (B, T, H, W, C) in [-1, 1]. `schedules` says how much noise a step has,
`parameterisations` what a network predicts, `losses` how it is trained, `samplers` how
a video comes out of noise, `guidance` and `masks` what the video is given, and
`long_video` how it becomes longer than the network takes. `process` joins what a
network was trained with, and `training` gives the batches and the loss.
"""

from jaxflow.diffusion import guidance as guidance
from jaxflow.diffusion import long_video as long_video
from jaxflow.diffusion import losses as losses
from jaxflow.diffusion import masks as masks
from jaxflow.diffusion import parameterisations as parameterisations
from jaxflow.diffusion import process as process
from jaxflow.diffusion import samplers as samplers
from jaxflow.diffusion import schedules as schedules
from jaxflow.diffusion import training as training
