"""Tests for jaxflow.views.networks."""

import types

import pytest

from jaxflow import spec, views
from jaxflow.views import networks


def test_a_name_or_a_network_for_flow_is_no_recognition_network():
    with pytest.raises(ValueError, match="names a network, and weights are needed"):
        views.check_network("r3d_18")
    with pytest.raises(ValueError, match="must be a recognition network; got 'r3d'"):
        views.check_network("r3d")
    flow = types.SimpleNamespace(frames=spec.Frames(multiple=8))
    with pytest.raises(ValueError, match=r"one for flow, .*estimate_flow"):
        views.check_network(flow)
    other = types.SimpleNamespace()
    assert views.check_network(other) is other


def test_an_option_is_what_is_given_or_what_the_config_says():
    config = types.SimpleNamespace(frame_stride=2)
    assert networks.setting(config, "frame_stride", None) == 2
    assert networks.setting(config, "frame_stride", 3) == 3
    with pytest.raises(ValueError, match=r"`stride` must be given: .* config\.stride"):
        networks.setting(config, "stride", None)
    with pytest.raises(ValueError, match="`stride` must be positive"):
        networks.setting(config, "frame_stride", -1, option="stride")
