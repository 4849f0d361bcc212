"""Weights from elsewhere: official checkpoints into our models.

Every model file has `KEYS`: for each dialect (whose code wrote the checkpoint) a table
of (pattern of a foreign key, path of the weight in our model). This package recognises
the dialect, moves the axes from torch's layout to ours and fills the model. A model of
ours is archived as safetensors under its own dotted paths.
"""

from jaxflow.convert.load import convert_state_dict as convert_state_dict
from jaxflow.convert.load import load_model as load_model
from jaxflow.convert.load import load_pretrained as load_pretrained
from jaxflow.convert.load import load_weights as load_weights
from jaxflow.convert.load import read_checkpoint as read_checkpoint
from jaxflow.convert.load import save_weights as save_weights
from jaxflow.convert.load import shipped_model as shipped_model
from jaxflow.convert.slots import OWN_DIALECT as OWN_DIALECT
from jaxflow.convert.slots import Slot as Slot
from jaxflow.convert.slots import find_slot as find_slot
from jaxflow.convert.slots import is_optional as is_optional
from jaxflow.convert.slots import key_tables as key_tables
from jaxflow.convert.slots import node_at as node_at
from jaxflow.convert.slots import weight_slots as weight_slots
from jaxflow.io.state_files import unwrap as unwrap
