"""Training: a pure step, compiled once over a mesh of devices, and a short loop.

    state = train.init(model, optimiser, seed=0)
    step = train.make_step(model, loss, optimiser, draw=draw)
    state = train.fit(step, state, steps=1000, workdir="runs/one")
    train.finish(model, state)

A batch either comes out of `draw`, a function of a random key that runs inside the step
on the devices, or out of an iterator given to `fit`. Random keys derive from (seed,
step), so a run that was stopped and resumed is the same run, bit for bit. Everything
here is meant to be read and forked.
"""

from jaxflow.mesh import data_mesh as data_mesh
from jaxflow.mesh import shard_batch
from jaxflow.train.compiled import Step as Step
from jaxflow.train.compiled import make_step as make_step
from jaxflow.train.loop import fit as fit
from jaxflow.train.state import TrainState as TrainState
from jaxflow.train.state import averaged as averaged
from jaxflow.train.state import finish as finish
from jaxflow.train.state import init as init
from jaxflow.train.step import Batch as Batch
from jaxflow.train.step import Loss as Loss
from jaxflow.train.step import Metrics as Metrics
from jaxflow.train.step import Rebuild as Rebuild
from jaxflow.train.step import separate as separate
from jaxflow.train.step import split_batch as split_batch
from jaxflow.train.step import step_keys as step_keys
from jaxflow.train.step import train_step as train_step

shard = shard_batch
