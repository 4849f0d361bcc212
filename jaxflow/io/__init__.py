"""Files to NumPy arrays and back: flow, pictures and video. Nothing here needs JAX.

Every reader raises one `ValueError` that names the file and its fault, before memory
is allocated for what a header claims. Every writer is atomic: the file is there whole,
or is not touched.
"""

from jaxflow.io.flo import read_flo as read_flo
from jaxflow.io.flo import write_flo as write_flo
from jaxflow.io.flow import read_flow as read_flow
from jaxflow.io.flow import write_flow as write_flow
from jaxflow.io.frames import list_flows as list_flows
from jaxflow.io.frames import list_frames as list_frames
from jaxflow.io.frames import read_frames as read_frames
from jaxflow.io.image import as_float as as_float
from jaxflow.io.image import read_image as read_image
from jaxflow.io.image import write_image as write_image
from jaxflow.io.kitti import read_kitti as read_kitti
from jaxflow.io.kitti import write_kitti as write_kitti
from jaxflow.io.pfm import read_pfm as read_pfm
from jaxflow.io.pfm import write_pfm as write_pfm
from jaxflow.io.png import read_png16 as read_png16
from jaxflow.io.png import write_png16 as write_png16
from jaxflow.io.video import VideoInfo as VideoInfo
from jaxflow.io.video import read_video as read_video
from jaxflow.io.video import video_info as video_info
from jaxflow.io.video import write_video as write_video
