"""The claims, each with what it foretells: written before anything was run.

A claim is about one number a seed: a metric of a run, or its difference from a metric
of another run with the same seed. It foretells that the mean of that number lies in a
range.
"""

import dataclasses
import math

CHANCE = (47.0, 53.0)
MORE = (0.0, math.inf)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
    """What is said, by whom, and what it foretells.

    Attributes:
        text: What is claimed.
        source: Who claims it.
        run: Name of the run.
        metric: Its metric, in percent.
        less: Name of the run to subtract; "" for none.
        less_metric: Its metric; "" for the same.
        range: Where the claim has the mean.
    """

    text: str
    source: str
    run: str
    metric: str = "top1"
    less: str = ""
    less_metric: str = ""
    range: tuple[float, float] = MORE

    @property
    def runs(self) -> tuple[str, ...]:
        """The runs that it needs."""
        return tuple(dict.fromkeys(name for name in (self.run, self.less) if name))


_REPFLOW = "Piergiovanni and Ryoo, Representation Flow (CVPR 2019)"
_SLOWFAST = "Feichtenhofer et al., SlowFast (ICCV 2019)"
_C3D = "Tran et al., C3D (ICCV 2015)"
_APPEARANCE = "Ilic et al., Appearance Free Action Recognition (ECCV 2022)"
_TWO_STREAMS = "Simonyan and Zisserman, Two-Stream Networks (NIPS 2014)"
_FUSION = "Feichtenhofer et al., Two-Stream Network Fusion (CVPR 2016)"
_WALKERS = "Johansson, Visual Perception of Biological Motion (1973)"
_LEAKS = "by construction of the set"

CLAIMS = (
    Claim(
        text="a net that sees single frames cannot tell a motion from its reversal",
        source=_LEAKS,
        run="order/single frame",
        metric="in_pair",
        range=CHANCE,
    ),
    Claim(
        text="nor can one that sees the mean frame",
        source=_LEAKS,
        run="order/mean frame",
        metric="in_pair",
        range=CHANCE,
    ),
    Claim(
        text="nor can a 3-D net that sees the frames in random order",
        source=_LEAKS,
        run="order/3-D, shuffled",
        metric="in_pair",
        range=CHANCE,
    ),
    Claim(
        text="the same 3-D net can, if it sees them in order",
        source=_LEAKS,
        run="order/3-D",
        metric="in_pair",
        less="order/3-D, shuffled",
    ),
    Claim(
        text="a 3-D net on RGB trusts looks: swapped, it loses over half of the clips",
        source=_APPEARANCE,
        run="bias/RGB",
        less="bias/RGB",
        less_metric="swapped",
        range=(50.0, math.inf),
    ),
    Claim(
        text="a net on TV-L1 flow does not: it loses less than one clip in ten",
        source=_APPEARANCE,
        run="bias/flow",
        less="bias/flow",
        less_metric="swapped",
        range=(-math.inf, 10.0),
    ),
    Claim(
        text="representation flow beats RGB, both in 2-D",
        source=_REPFLOW,
        run="local/5",
        less="local/RGB",
    ),
    Claim(
        text="representation flow in 2-D beats RGB in 3-D",
        source=_REPFLOW,
        run="local/5",
        less="local/3-D",
    ),
    Claim(
        text="learning theta, lambda, tau and divergence beats TV-L1's numbers",
        source=_REPFLOW,
        run="local/5",
        less="local/fixed, 5",
    ),
    Claim(
        text="5 iterations beat 1",
        source=_REPFLOW,
        run="local/5",
        less="local/1",
    ),
    Claim(
        text="10 iterations beat 5",
        source=_REPFLOW,
        run="local/10",
        less="local/5",
    ),
    Claim(
        text="20 iterations beat 10",
        source=_REPFLOW,
        run="local/20",
        less="local/10",
    ),
    Claim(
        text="flow-conv-flow beats one flow layer where motion changes",
        source=_REPFLOW,
        run="order2/flow, conv, flow",
        less="order2/one layer",
    ),
    Claim(
        text="one flow layer beats flow-of-flow",
        source=_REPFLOW,
        run="order2/one layer",
        less="order2/flow of flow",
    ),
    Claim(
        text="TV-L1 twice, with nothing that learns, is worse than flow-of-flow",
        source=_REPFLOW,
        run="order2/flow of flow",
        less="order2/TV-L1 twice",
    ),
    Claim(
        text="SlowFast beats its Slow pathway",
        source=_SLOWFAST,
        run="fastslow/SlowFast",
        less="fastslow/Slow",
    ),
    Claim(
        text="the Slow pathway beats the Fast one",
        source=_SLOWFAST,
        run="fastslow/Slow",
        less="fastslow/Fast",
    ),
    Claim(
        text="windows of 3 frames beat windows of 1",
        source=_C3D,
        run="depth/3",
        less="depth/1",
    ),
    Claim(
        text="windows of 3 frames beat windows of 5",
        source=_C3D,
        run="depth/3",
        less="depth/5",
    ),
    Claim(
        text="gradients of features that are left alone (central differences) do as "
        "well as learned ones or better",
        source=_REPFLOW,
        run="local/5",
        less="local/5, gradients learn",
    ),
    Claim(
        text="flow and RGB that are fused late beat flow alone",
        source=_REPFLOW,
        run="local/5, late fusion",
        less="local/5",
    ),
    Claim(
        text="late fusion beats concatenation",
        source=_REPFLOW,
        run="local/5, late fusion",
        less="local/5, concatenated",
    ),
    Claim(
        text="late fusion beats adding flow to its frames",
        source=_REPFLOW,
        run="local/5, late fusion",
        less="local/5, added",
    ),
    Claim(
        text="late fusion beats multiplying frames by flow",
        source=_REPFLOW,
        run="local/5, late fusion",
        less="local/5, multiplied",
    ),
    Claim(
        text="a flow layer behind the stem beats one on the pixels",
        source=_REPFLOW,
        run="where/stem",
        less="where/input",
    ),
    Claim(
        text="a flow layer behind the first stage beats one behind the stem",
        source=_REPFLOW,
        run="where/stage 1",
        less="where/stem",
    ),
    Claim(
        text="representation flow beats TVNet and a net on its flow",
        source=_REPFLOW,
        run="peers/RepFlow",
        less="peers/TVNet",
    ),
    Claim(
        text="representation flow beats MFNet",
        source=_REPFLOW,
        run="peers/RepFlow",
        less="peers/MFNet",
    ),
    Claim(
        text="representation flow beats ActionFlowNet",
        source=_REPFLOW,
        run="peers/RepFlow",
        less="peers/ActionFlowNet",
    ),
    Claim(
        text="a Fast pathway of a single channel is enough to beat the Slow one",
        source=_SLOWFAST,
        run="fastslow/SlowFast, 1 channel",
        less="fastslow/Slow",
    ),
    Claim(
        text="a Fast pathway that sees frames of half the size is as good as one that "
        "sees them whole",
        source=_SLOWFAST,
        run="fastslow/SlowFast",
        less="fastslow/SlowFast, RGB",
        range=(-5.0, 5.0),
    ),
    Claim(
        text="one that sees differences of frames is, too",
        source=_SLOWFAST,
        run="fastslow/SlowFast, time difference",
        less="fastslow/SlowFast, RGB",
        range=(-5.0, 5.0),
    ),
    Claim(
        text="frames and flow beat frames where the class is in both",
        source=_TWO_STREAMS,
        run="product/scores",
        less="product/frame",
        range=(25.0, math.inf),
    ),
    Claim(
        text="frames and flow beat flow where the class is in both",
        source=_TWO_STREAMS,
        run="product/scores",
        less="product/flow",
        range=(25.0, math.inf),
    ),
    Claim(
        text="features that are fused beat scores that are averaged",
        source=_FUSION,
        run="product/features, late",
        less="product/scores",
    ),
    Claim(
        text="features that are fused late beat those that are fused early",
        source=_FUSION,
        run="product/features, late",
        less="product/features, early",
    ),
    Claim(
        text="windows of 3 frames everywhere beat windows that grow",
        source=_C3D,
        run="depth/3",
        less="depth/increasing",
    ),
    Claim(
        text="windows of 3 frames everywhere beat windows that shrink",
        source=_C3D,
        run="depth/3",
        less="depth/decreasing",
    ),
    Claim(
        text="a frame of dots on a dancer's joints does not tell a move from its "
        "reversal",
        source=_WALKERS,
        run="dance/frame",
        metric="in_pair",
        range=CHANCE,
    ),
    Claim(
        text="frames and flow do, and beat the frame by far",
        source=_WALKERS,
        run="dance/two streams",
        metric="in_pair",
        less="dance/frame",
        range=(25.0, math.inf),
    ),
)
