"""Which frames a recognition network sees: clips in time, crops in space.

video -> clips of frames (`clip_indices`) -> crops (`spatial_views`)
"""

from jaxflow.data.clips import Placement as Placement
from jaxflow.data.clips import clip_indices as clip_indices
from jaxflow.views.crops import CROPS as CROPS
from jaxflow.views.crops import mirrored as mirrored
from jaxflow.views.crops import spatial_views as spatial_views
from jaxflow.views.networks import check_network as check_network
from jaxflow.views.pixels import resized as resized
from jaxflow.views.sampling import batches as batches
from jaxflow.views.sampling import clips_around as clips_around
from jaxflow.views.sampling import duration as duration
from jaxflow.views.sampling import sample_views as sample_views
from jaxflow.views.source import Flow as Flow
from jaxflow.views.source import Video as Video
