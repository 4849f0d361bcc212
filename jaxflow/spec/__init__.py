"""What a model owes: its record, its calls, its config and the checks at its door."""

from jaxflow.spec.configs import Count as Count
from jaxflow.spec.configs import Number as Number
from jaxflow.spec.configs import Share as Share
from jaxflow.spec.configs import check_config as check_config
from jaxflow.spec.inputs import check_clip as check_clip
from jaxflow.spec.inputs import check_fixed_clip as check_fixed_clip
from jaxflow.spec.inputs import check_pair as check_pair
from jaxflow.spec.inputs import check_pixels as check_pixels
from jaxflow.spec.protocols import Flow as Flow
from jaxflow.spec.protocols import FlowModel as FlowModel
from jaxflow.spec.protocols import GenerationModel as GenerationModel
from jaxflow.spec.protocols import VideoModel as VideoModel
from jaxflow.spec.records import Frames as Frames
from jaxflow.spec.records import Published as Published
from jaxflow.spec.records import Record as Record
from jaxflow.spec.records import Weights as Weights
from jaxflow.spec.records import mmflow_weights as mmflow_weights
from jaxflow.spec.records import record_of as record_of
