"""Pictures of motion: flow in colour, arrows, errors, occlusion, panels.

Arrays go in and (H, W, 3) uint8 RGB comes out. Only NumPy and Pillow are used, and JAX
arrays are taken as they are. Flow is (u, v) in pixels. `valid` says where the flow is
known; a value that is NaN or beyond 1e9 is unknown in any case. Images are uint8 or
uint16, or float in [0, 1].
"""

from jaxflow.viz.codes import clip_length as clip_length
from jaxflow.viz.codes import dequantize_flow as dequantize_flow
from jaxflow.viz.codes import quantize_flow as quantize_flow
from jaxflow.viz.colours import clip_scale as clip_scale
from jaxflow.viz.colours import color_wheel as color_wheel
from jaxflow.viz.colours import flow_to_image as flow_to_image
from jaxflow.viz.colours import legend as legend
from jaxflow.viz.colours import max_speed as max_speed
from jaxflow.viz.errors import error_map as error_map
from jaxflow.viz.errors import kitti_error_map as kitti_error_map
from jaxflow.viz.networks import confusion_picture as confusion_picture
from jaxflow.viz.networks import filter_strips as filter_strips
from jaxflow.viz.pictures import draw_arrows as draw_arrows
from jaxflow.viz.pictures import draw_boxes as draw_boxes
from jaxflow.viz.pictures import overlay as overlay
from jaxflow.viz.pictures import panel as panel
