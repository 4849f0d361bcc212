"""Losses for training optical flow, with and without ground truth.

Flow is (u, v) in pixels of the array it indexes, (B, H, W, 2). A mask is (B, H, W), 1
or True where the ground truth (or the photometric comparison) counts. What lies under a
0 may be anything, finite or not: it changes neither the loss nor its gradient. Every
loss is a float32 scalar whose gradient is finite, also where the error is exactly 0.
"""

from jaxflow.losses.penalties import Penalty as Penalty
from jaxflow.losses.penalties import charbonnier as charbonnier
from jaxflow.losses.penalties import norm as norm
from jaxflow.losses.penalties import robust as robust
from jaxflow.losses.supervised import PWC_WEIGHTS as PWC_WEIGHTS
from jaxflow.losses.supervised import area_average as area_average
from jaxflow.losses.supervised import balanced as balanced
from jaxflow.losses.supervised import density as density
from jaxflow.losses.supervised import end_point as end_point
from jaxflow.losses.supervised import multi_scale as multi_scale
from jaxflow.losses.supervised import occlusion as occlusion
from jaxflow.losses.supervised import sequence as sequence
from jaxflow.losses.supervised import upsampled as upsampled
from jaxflow.losses.unsupervised import census as census
from jaxflow.losses.unsupervised import photometric as photometric
from jaxflow.losses.unsupervised import smoothness as smoothness
