"""The claims about networks that estimate flow, written before anything was run.

Each number is a difference of errors, in percent of the error of no motion, so that
more than 0 speaks for the second of the two runs.
"""

import functools
import math

from experiments.evidence import claims

_FLOWNET = "Dosovitskiy et al., FlowNet (ICCV 2015)"
_FLOWNET2 = "Ilg et al., FlowNet 2.0 (CVPR 2017)"
_PWCNET = "Sun et al., PWC-Net (CVPR 2018)"
_SPYNET = "Ranjan and Black, SpyNet (CVPR 2017)"

_Claim = functools.partial(claims.Claim, metric="error")

CLAIMS = (
    _Claim(
        text="FlowNetC errs less than FlowNetS",
        source=_FLOWNET,
        run="flow/FlowNetS",
        less="flow/FlowNetC",
    ),
    _Claim(
        text="two more levels, up to full size, gain less than 5 points over bilinear "
        "up-sampling",
        source=_FLOWNET,
        run="flow/FlowNetS",
        less="flow/FlowNetS to full size",
        range=(-math.inf, 5.0),
    ),
    _Claim(
        text="two stacked networks err less than one of as many weights",
        source=_FLOWNET2,
        run="flow/FlowNetS, 1.4 times as wide",
        less="flow/two FlowNetS",
    ),
    _Claim(
        text="chairs first and things then beat both mixed, on scenes of neither",
        source=_FLOWNET2,
        run="flow/chairs and things mixed",
        less="flow/chairs, then things",
    ),
    _Claim(
        text="chairs first and things then beat things first and chairs then",
        source=_FLOWNET2,
        run="flow/things, then chairs",
        less="flow/chairs, then things",
    ),
    _Claim(
        text="FlowNetSD errs less than FlowNetS on small motions",
        source=_FLOWNET2,
        run="flow/FlowNetS, small motions",
        less="flow/FlowNetSD, small motions",
    ),
    _Claim(
        text="PWC-Net without warping errs more",
        source=_PWCNET,
        run="flow/PWC-Net, no warping",
        less="flow/PWC-Net",
    ),
    _Claim(
        text="PWC-Net without its cost volume errs more",
        source=_PWCNET,
        run="flow/PWC-Net, no cost volume",
        less="flow/PWC-Net",
    ),
    _Claim(
        text="PWC-Net without its context network errs more",
        source=_PWCNET,
        run="flow/PWC-Net, no context",
        less="flow/PWC-Net",
    ),
    _Claim(
        text="SpyNet trained level by level errs less than all levels trained at once",
        source=_SPYNET,
        run="flow/SpyNet, all levels at once",
        less="flow/SpyNet, level by level",
    ),
)
