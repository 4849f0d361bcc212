import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow import convert, cost
from jaxflow.layers import norm
from jaxflow.models.video import two_stream

TINY = dataclasses.replace(
    two_stream.TINY, fusion="late", temporal=False, bottleneck=False, blocks=(1,) * 4
)


def built(**changes):
    """Returns a tiny network whose statistics are not those of new layers."""
    config = dataclasses.replace(TINY, **changes)
    model = two_stream.Model(config, rngs=nnx.Rngs(0))
    numbers = np.random.default_rng(0)
    for slot in convert.weight_slots(model).values():
        if isinstance(slot.variable, nnx.BatchStat):
            noise = 0.1 * numbers.standard_normal(slot.variable.shape)
            slot.variable[...] = slot.variable[...] + np.abs(noise).astype(np.float32)
    model.eval()
    return model


@pytest.fixture
def run(run):
    """Calls `function(model, clip)`, by default the model, under one `jax.jit`."""
    call = lambda model, clip: model(clip)  # noqa: E731
    return lambda model, clip, function=call: run(model, clip, function=function)


@functools.cache
def clip_of(batch=2, frames=4, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.uniform(size=(batch, frames, 32, 32, 5)), jnp.float32)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("two_stream_r34", 43_033_056),
        ("two_stream_flow_r34", 21_543_184),
        pytest.param("two_stream_r50", 48_708_576, marks=pytest.mark.slow),
        ("tsn_rgb_r50", 24_327_632),
    ],
)
def test_has_the_known_number_of_parameters(name, parameters):
    assert cost.count_parameters(cost.describe(name)) == parameters


@pytest.mark.slow
def test_costs_what_the_streams_cost_in_torchvision():
    # Hooks on torchvision's ResNets: 3.663 on frames and 4.332 on 20 channels.
    _, products = cost.video_cost("two_stream_r34")
    np.testing.assert_allclose(products / 1e9, 3.663 + 4.332, atol=2e-3)
    _, products = cost.video_cost("tsn_rgb_r50")
    np.testing.assert_allclose(products / 1e9, 3 * 4.088, atol=3e-3)


def test_streams_see_the_frame_in_the_middle_and_interleaved_flow(rng):
    model = built(stack=4)
    clip = rng.uniform(size=(1, 8, 32, 32, 5)).astype(np.float32)
    frames, stacks = model._parts(jnp.asarray(clip))
    assert frames.shape == (1, 2, 32, 32, 3) and stacks.shape == (1, 2, 32, 32, 8)
    mean, std = np.array(TINY.mean), np.array(TINY.std)
    np.testing.assert_allclose(
        frames[0], (clip[0, [2, 6], ..., :3] - mean) / std, atol=1e-5
    )
    # u and v of a segment's first frame, then of its second, ...: no motion is 0.
    for segment, channel in ((0, 0), (0, 1), (1, 2), (1, 7)):
        code = clip[0, 4 * segment + channel // 2, ..., 3 + channel % 2]
        expected = (255 * code - 128) / 128
        np.testing.assert_allclose(
            stacks[0, segment, ..., channel], expected, atol=1e-5
        )


def test_late_fusion_is_the_weighted_mean_of_both_streams(run):
    model = built(weights=(1.0, 1.5))
    total, (rgb, flow) = run(
        model, clip_of(), lambda model, clip: (model(clip), model.scores(clip))
    )
    np.testing.assert_allclose(total, (rgb + 1.5 * flow) / 2.5, atol=1e-6)
    alone = built(streams="flow")
    nnx.update(alone.flow, nnx.state(model.flow))
    np.testing.assert_allclose(run(alone, clip_of()[..., 3:]), flow, atol=1e-5)


def test_consensus_of_segments_is_the_mean_of_their_logits(run):
    model = built()
    segments = clip_of().reshape(4, 2, 32, 32, 5)
    apart = np.asarray(run(model, segments)).reshape(2, 2, 5)
    np.testing.assert_allclose(run(model, clip_of()), apart.mean(1), atol=1e-5)


def test_probabilities_of_streams_are_averaged(run):
    model = built(head_mode="softmax_mean")
    np.testing.assert_allclose(run(model, clip_of()).sum(-1), 1, atol=1e-6)


@pytest.mark.parametrize("how", ["sum", "max", "conv"])
def test_meeting_joins_place_by_place(how, rng):
    meeting = two_stream.Meeting(3, how, rngs=nnx.Rngs(0))
    one, two = rng.normal(size=(2, 1, 2, 4, 5, 3)).astype(np.float32)
    joined = np.asarray(meeting(jnp.asarray(one), jnp.asarray(two)))
    expected = np.maximum(one, two) if how == "max" else one + two
    np.testing.assert_allclose(joined, expected, atol=1e-6)
    if how == "conv":
        kernel = rng.normal(size=(6, 3)).astype(np.float32)
        meeting.conv.kernel[...] = jnp.asarray(kernel).reshape(1, 1, 1, 6, 3)
        joined = meeting(jnp.asarray(one), jnp.asarray(two))
        expected = np.concatenate([one, two], -1) @ kernel
        np.testing.assert_allclose(joined, expected, atol=1e-5)


@pytest.mark.parametrize("after", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_streams_meet_behind_the_chosen_stage(after, run):
    model = built(fusion="sum", fusion_after=after)
    assert hasattr(model.flow, f"res{after}")
    assert not hasattr(model.flow, f"res{after + 1}") and model.flow.head is None

    def by_hand(model, clip):
        frames, stacks = model._parts(clip)
        x, motion = model.rgb.start(frames), model.flow.start(stacks)
        for number in two_stream.STAGES:
            x = model.rgb.stage(number)(x)
            if number <= after:
                motion = model.flow.stage(number)(motion)
            if number == after:
                x = x + motion
        return model(clip), model.rgb.head(x)

    found, expected = run(model, clip_of(), by_hand)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("how", ["add", "multiply"])
def test_motion_speaks_to_the_residual_branch_of_the_second_block_only(how, rng):
    """x2 = f(x1) + F(x1 + m) or f(x1) + F(x1 m), x1 before its ReLU."""
    config = dataclasses.replace(TINY, blocks=(2,) * 4)
    stage = two_stream.Stage(4, 4, 2, stride=1, config=config, rngs=nnx.Rngs(0))
    x, motion = jnp.asarray(rng.normal(size=(2, 1, 2, 6, 6, 4)), jnp.float32)
    first, second = stage.blocks
    x1 = first.second(first.first(x)) + x
    seen = x1 + motion if how == "add" else x1 * motion
    expected = jax.nn.relu(jax.nn.relu(x1) + second.second(second.first(seen)))
    np.testing.assert_allclose(stage(x, motion, how=how), expected, atol=1e-5)
    np.testing.assert_allclose(stage(x), second(first(x)), atol=1e-6)


@pytest.mark.parametrize("fusion", ["add", "multiply"])
def test_flow_reaches_appearance_and_not_the_other_way(fusion, run):
    model = built(fusion=fusion, blocks=(2, 1, 1, 1))
    clip = clip_of()
    still = clip.at[..., 3:].set(0.5)
    blind = clip.at[..., :3].set(0.5)
    rgb, flow = run(model, clip, lambda model, clip: model.scores(clip))
    other, _ = run(model, still, lambda model, clip: model.scores(clip))
    _, same = run(model, blind, lambda model, clip: model.scores(clip))
    assert np.abs(rgb - other).max() > 1e-3
    np.testing.assert_array_equal(flow, same)


def test_temporal_convolutions_look_at_three_segments():
    model = built(temporal=True, bottleneck=True, blocks=(2, 1, 1, 1))
    second = model.rgb.res2.blocks[1]
    assert second.a.conv.kernel.shape[0] == second.c.conv.kernel.shape[0] == 3
    assert model.rgb.res2.blocks[0].a.conv.kernel.shape[0] == 1
    clip = clip_of(batch=1, frames=12)
    stage = jax.jit(lambda clip: model.rgb.res2(model.rgb.start(model._parts(clip)[0])))
    change = np.abs(stage(clip.at[:, 11].add(0.5)) - stage(clip)).max((0, 2, 3, 4))
    # Two convolutions of three segments see two segments back.
    np.testing.assert_array_equal(
        change > 1e-5, [False, False, False, True, True, True]
    )


def test_partial_normalisation_learns_in_the_first_layer_of_a_stream_alone(run):
    model = built(partial_norm=True, dropout_rate=0.0, flow_dropout_rate=0.0)
    model.train()
    clip = clip_of()

    def trained(model, clip):
        def loss(params):
            own = nnx.merge(graph, params, stats, copy=True)
            value = jnp.sum(own(clip) ** 2)
            return value, nnx.state(own, nnx.BatchStat)

        graph, params, stats = nnx.split(model, nnx.Param, nnx.BatchStat)
        return jax.grad(loss, has_aux=True)(params)

    gradients, stats = run(model, clip, trained)
    before = nnx.to_flat_state(nnx.state(model, nnx.BatchStat))
    after = nnx.to_flat_state(stats)
    for (path, old), (_, new) in zip(before, after, strict=True):
        moved = not np.array_equal(old[...], new[...])
        assert moved == ("stem" in path), path
    for path, gradient in nnx.to_flat_state(gradients):
        frozen = "norm" in path and "stem" not in path
        assert np.any(gradient[...]) != frozen, path


def test_partial_normalisation_names_every_layer_but_the_first():
    model = built(partial_norm=True)
    layers = [n for _, n in nnx.iter_graph(model) if isinstance(n, norm.BatchNorm)]
    kept = [layer for layer in layers if not layer.frozen]
    assert len(layers) > 10
    assert {id(layer) for layer in kept} == {
        id(model.rgb.stem.norm),
        id(model.flow.stem.norm),
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_frames": 5}, "`num_frames` must be a multiple of `stack`"),
        ({"streams": "rgb", "fusion": "sum"}, "`fusion` must be 'late'"),
        ({"fusion": "add", "blocks": (1, 1, 1, 1)}, "`blocks` must be 2 or more"),
        ({"temporal": True}, "`temporal` must be False"),
    ],
)
def test_a_config_that_makes_no_network_is_one_clear_error(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **changes)


def test_a_clip_of_a_broken_stack_is_an_error():
    with pytest.raises(ValueError, match="multiple of 2 frames"):
        built()(clip_of()[:, :3])
    with pytest.raises(ValueError, match=r"\(B, T, H, W, 5\)"):
        built()(clip_of()[..., :3])


def mmaction2_state(model, stream):
    """Returns the weights of one stream under mmaction2's names."""
    names = {"a": "conv1", "b": "conv2", "c": "conv3", "shortcut": "downsample"}
    state = {}
    leaves = {"scale": "weight", "mean": "running_mean", "var": "running_var"}
    for path, slot in convert.weight_slots(model).items():
        owner, *rest = path.split(".")
        if owner != stream:
            continue
        value = np.asarray(slot.variable[...])
        leaf = leaves.get(rest[-1], rest[-1])
        if rest[0] == "head":
            key = f"cls_head.fc_cls.{'weight' if rest[-1] == 'kernel' else 'bias'}"
            value = value.T
        else:
            kind = "conv" if rest[-2] == "conv" else "bn"
            if kind == "conv":
                leaf, value = "weight", value[0].transpose(3, 2, 0, 1)
            if rest[0] == "stem":
                key = f"backbone.conv1.{kind}.{leaf}"
            else:
                block = f"layer{int(rest[0][3:]) - 1}.{rest[2]}"
                key = f"backbone.{block}.{names[rest[3]]}.{kind}.{leaf}"
        state[key] = value
    return state


def test_reads_the_names_of_mmaction2():
    model = built(bottleneck=True)
    both = {
        f"{stream}.{key}": value
        for stream in ("rgb", "flow")
        for key, value in mmaction2_state(model, stream).items()
    }
    for streams, state in (
        ("both", both),
        ("rgb", mmaction2_state(model, "rgb")),
        ("flow", mmaction2_state(model, "flow")),
    ):
        other = built(bottleneck=True, streams=streams)
        for slot in convert.weight_slots(other).values():
            slot.fill(np.full(slot.variable.shape, np.nan))
        convert.convert_state_dict(other, state)
        slots = convert.weight_slots(model)
        for path, slot in convert.weight_slots(other).items():
            np.testing.assert_array_equal(
                slot.variable[...], slots[path].variable[...], err_msg=path
            )
