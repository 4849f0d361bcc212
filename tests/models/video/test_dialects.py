"""Every dialect names every weight of the networks it publishes, once, in its shape.

The names are spelled out here from the structure of the foreign code, not from our
tables. Those of the golden files are verified where these are run.
"""

import pickle

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow import convert, cost, models
from jaxflow.models.video import resnet3d

NORM = ("weight", "bias", "running_mean", "running_var")
CAFFE2_NORM = {"weight": "s", "bias": "b", "running_mean": "rm", "running_var": "riv"}


def convolution(names, conv, norm, shape):
    """Adds a convolution without bias, and its normalisation."""
    names[f"{conv}.weight"] = shape
    names.update({f"{norm}.{leaf}": shape[:1] for leaf in NORM})


def pyslowfast(name):
    """Returns PySlowFast's key -> shape of a Slow, Fast, C2D, I3D or SlowFast."""
    config = models.find(name).VARIANTS[name]
    names = {}
    fast = hasattr(config, "beta_inv")
    widths = [config.width, config.width // config.beta_inv] if fast else [config.width]
    for pathway, width in enumerate(widths):
        if fast:
            stem = (1, 5)[pathway]
            moving = (config.temporal_blocks, config.fast_temporal_blocks)[pathway]
            windows = [[3] * n + [1] * 30 for n in moving]
            extra = 2 * widths[1] if pathway == 0 else 0
        else:
            stem, extra = config.stem_window, 0
            windows = [w * 30 for w in config.windows]
        convolution(
            names,
            f"s1.pathway{pathway}_stem.conv",
            f"s1.pathway{pathway}_stem.bn",
            (width, 3, stem, 7, 7),
        )
        features = width
        for stage, count in enumerate(config.blocks):
            inner = width * 2**stage
            # The lateral connection adds twice the fast channels.
            features += extra * (1, 4, 8, 16)[stage]
            for block in range(count):
                prefix = f"s{stage + 2}.pathway{pathway}_res{block}"
                if block == 0:
                    shape = (4 * inner, features, 1, 1, 1)
                    convolution(
                        names, f"{prefix}.branch1", f"{prefix}.branch1_bn", shape
                    )
                shapes = {
                    "a": (inner, features, windows[stage][block], 1, 1),
                    "b": (inner, inner, 1, 3, 3),
                    "c": (4 * inner, inner, 1, 1, 1),
                }
                for letter, shape in shapes.items():
                    conv = f"{prefix}.branch2.{letter}"
                    convolution(names, conv, f"{conv}_bn", shape)
                features = 4 * inner
                if pathway == 0 and block in config.non_local_after[stage]:
                    prefix = f"s{stage + 2}.pathway0_nonlocal{block}"
                    for part in ("theta", "phi", "g", "out"):
                        shape = (features // 2, features, 1, 1, 1)
                        shape = (*shape[1::-1], 1, 1, 1) if part == "out" else shape
                        names[f"{prefix}.conv_{part}.weight"] = shape
                        names[f"{prefix}.conv_{part}.bias"] = shape[:1]
                    names.update({f"{prefix}.bn.{leaf}": (features,) for leaf in NORM})
    if fast:
        for index in range(4):
            count = widths[1] * (1, 4, 8, 16)[index]
            shape = (2 * count, count, config.lateral_window, 1, 1)
            fuse = f"s{index + 1}_fuse"
            convolution(names, f"{fuse}.conv_f2s", f"{fuse}.bn", shape)
    classes = (config.num_classes, 32 * sum(widths))
    names |= {"head.projection.weight": classes, "head.projection.bias": classes[:1]}
    return names


def pytorchvideo(name):
    """Returns pytorchvideo's key -> shape."""
    config = models.find(name).VARIANTS[name]
    fast = hasattr(config, "beta_inv")
    pooled = getattr(config, "temporal_pool", False)
    stages = (1, 3, 4, 5) if pooled else (1, 2, 3, 4)
    names = {}
    for key, shape in pyslowfast(name).items():
        first, *rest = key.split(".")
        leaf = rest[-1]
        if first == "head":
            key = f"blocks.{6 if fast or pooled else 5}.proj.{leaf}"
        elif first.endswith("_fuse"):
            part = {"conv_f2s": "conv_fast_to_slow", "bn": "norm"}[rest[0]]
            key = f"blocks.{int(first[1]) - 1}.multipathway_fusion.{part}.{leaf}"
        else:
            place = rest[0].removeprefix("pathway")
            inner = f"multipathway_blocks.{place[0]}." if fast else ""
            if first == "s1":
                part = {"conv": "conv", "bn": "norm"}[rest[1]]
                key = f"blocks.0.{inner}{part}.{leaf}"
            else:
                number = place.partition("_res")[2]
                part = {"branch1": "branch1_conv", "branch1_bn": "branch1_norm"}.get(
                    rest[1], ""
                )
                if not part:
                    letter, _, normalised = rest[2].partition("_")
                    part = f"branch2.{'norm' if normalised else 'conv'}_{letter}"
                block = f"blocks.{stages[int(first[1]) - 2]}.{inner}res_blocks"
                key = f"{block}.{number}.{part}.{leaf}"
        names[key] = shape
    return names


def caffe2(name):
    """Returns Caffe2's blob -> shape."""
    config = models.find(name).VARIANTS[name]
    last = [count - 1 for count in config.blocks]
    names = {}
    for key, shape in pyslowfast(name).items():
        first, *rest = key.split(".")
        leaf = rest[-1]
        short = CAFFE2_NORM[leaf]
        if first == "head":
            blob = {"weight": "pred_w", "bias": "pred_b"}[leaf]
        elif first.endswith("_fuse"):
            index = int(first[1])
            where = (
                f"res{index}_{last[index - 2]}_branch2c_bn" if index > 1 else "pool1"
            )
            blob = f"t_{where}_subsample"
            blob += "_w" if rest[0] == "conv_f2s" else f"_bn_{short}"
        elif "nonlocal" in rest[0]:
            number = rest[0].partition("nonlocal")[2]
            part = rest[1].removeprefix("conv_")
            blob = f"nonlocal_conv{first[1]}_{number}_{part}"
            blob += f"_{'w' if leaf == 'weight' and part != 'bn' else short}"
        else:
            pathway, _, number = rest[0].partition("_")
            prefix = "t_" if pathway == "pathway1" else ""
            if first == "s1":
                blob = "conv1_w" if rest[1] == "conv" else f"res_conv1_bn_{short}"
            else:
                branch = "".join(rest[1:-1])
                normalised = branch.endswith("_bn")
                branch = branch.removesuffix("_bn")
                blob = f"res{first[1]}_{number.removeprefix('res')}_{branch}"
                blob += f"_bn_{short}" if normalised else "_w"
            blob = prefix + blob
        names[blob] = shape
    return names


def torchvision_resnet(kinds, blocks=(2, 2, 2, 2)):
    """Returns torchvision's key -> shape of a network of two-convolution blocks."""
    names = {}

    def split(conv, norm, inner, outer, middle, window):
        prefix = f"{conv}."
        first = (middle, inner, 1, window, window)
        convolution(names, f"{prefix}0", f"{prefix}1", first)
        convolution(names, f"{prefix}3", norm, (outer, middle, 3, 1, 1))

    if kinds[0] == "2plus1d":
        split("stem", "stem.4", 3, 64, 45, 7)
    else:
        convolution(names, "stem.0", "stem.1", (64, 3, 3, 7, 7))
    features = 64
    for stage, (kind, count) in enumerate(zip(kinds, blocks, strict=True)):
        width = 64 * 2**stage
        for block in range(count):
            prefix = f"layer{stage + 1}.{block}"
            inputs = features if block == 0 else width
            middle = 27 * inputs * width // (9 * inputs + 3 * width)
            for number, channels in ((1, inputs), (2, width)):
                conv, norm = f"{prefix}.conv{number}.0", f"{prefix}.conv{number}.1"
                if kind == "2plus1d":
                    split(conv, norm, channels, width, middle, 3)
                else:
                    time = 3 if kind == "3d" else 1
                    convolution(names, conv, norm, (width, channels, time, 3, 3))
            if inputs != width:
                down = f"{prefix}.downsample"
                shape = (width, inputs, 1, 1, 1)
                convolution(names, f"{down}.0", f"{down}.1", shape)
        features = width
    return names | {"fc.weight": (400, 512), "fc.bias": (400,)}


def check(read_names, name, dialect, shapes, prefix=""):
    """Asserts that a table gives every weight of a model once, in its shape."""
    model = cost.describe(name)
    keys = {prefix + key: shape for key, shape in shapes.items()}
    paths = read_names(models.find(name).KEYS[dialect], keys)
    assert "no row" not in paths.values()
    slots = {key: convert.find_slot(model, path) for key, path in paths.items()}
    assert None not in slots.values()
    for key, slot in slots.items():
        assert slot.accepts(tuple(keys[key])), key
    filled = [slot.path for slot in slots.values()]
    assert sorted(filled) == sorted(convert.weight_slots(model))


SLOWFAST = [
    *("slowfast_4x16_r50", "slowfast_8x8_r50", "slowfast_8x8_r101"),
    *("slowfast_8x8_r101_50_50", "slowfast_8x8_r101_50_101"),
    *("slowfast_16x8_r101_50_50",),
]
ONE_PATHWAY = ["slow_r50", "slow_16x8_r101_50_50", "fast_r50", "c2d_nopool_r50"]
POOLED = ["c2d_r50", "i3d_r50"]
NON_LOCAL = ["i3d_nln_r50", "slow_nln_r50", "slowfast_nln_8x8_r50"]
NON_LOCAL += ["slowfast_nln_16x8_r101_50_50"]
# One of each kind of network.
QUICK = {"slowfast_4x16_r50", "slow_r50", "fast_r50", "i3d_r50", "slowfast_nln_8x8_r50"}


def quick_or_slow(names):
    """Returns the parameters of a test: only those of `QUICK` run always."""
    marks = (() if name in QUICK else pytest.mark.slow for name in names)
    return [
        pytest.param(name, marks=mark) for name, mark in zip(names, marks, strict=True)
    ]


@pytest.mark.parametrize(
    "name", quick_or_slow(SLOWFAST + ONE_PATHWAY + POOLED + NON_LOCAL)
)
def test_pyslowfast(read_names, name):
    check(read_names, name, "pyslowfast", pyslowfast(name))


@pytest.mark.parametrize("name", quick_or_slow(SLOWFAST + ONE_PATHWAY + POOLED))
def test_pytorchvideo(read_names, name):
    dialect = "pytorchvideo_pool" if name in POOLED else "pytorchvideo"
    check(read_names, name, dialect, pytorchvideo(name))
    # As PySlowFast saves them.
    check(read_names, name, dialect, pytorchvideo(name), prefix="model.")


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOWFAST + ONE_PATHWAY + POOLED + NON_LOCAL)
def test_caffe2(read_names, name):
    if name == "fast_r50":
        pytest.skip("Caffe2 has no Fast pathway by itself")
    check(read_names, name, "caffe2", caffe2(name))


@pytest.mark.parametrize(
    ("name", "kinds", "blocks"),
    [
        ("r3d_18", ("3d",) * 4, (2, 2, 2, 2)),
        ("r3d_34", ("3d",) * 4, (3, 4, 6, 3)),
        ("mc3_18", ("3d", "2d", "2d", "2d"), (2, 2, 2, 2)),
        ("r2plus1d_18", ("2plus1d",) * 4, (2, 2, 2, 2)),
    ],
)
def test_torchvision(read_names, name, kinds, blocks):
    dialect = "torchvision_2plus1d" if kinds[0] == "2plus1d" else "torchvision"
    check(read_names, name, dialect, torchvision_resnet(kinds, blocks))


def test_the_original_names_of_c3d(read_names):
    sizes = (3, 64, 128, 256, 256, 512, 512, 512, 512)
    layers = ("conv1a", "conv2a", "conv3a", "conv3b", "conv4a", "conv4b", "conv5a")
    shapes = {}
    for index, layer in enumerate((*layers, "conv5b")):
        shapes[f"{layer}.weight"] = (sizes[index + 1], sizes[index], 3, 3, 3)
    dense = {"fc6": (4096, 8192), "fc7": (4096, 4096), "fc8": (101, 4096)}
    shapes |= {f"{layer}.weight": shape for layer, shape in dense.items()}
    shapes |= {
        key.replace("weight", "bias"): shape[:1] for key, shape in shapes.items()
    }
    check(read_names, "c3d", "original", shapes)


def test_a_caffe2_pickle_fills_a_network_by_itself(tmp_path, rng):
    """The whole way: a file with the solver's leftovers, the dialect unsaid."""
    model = resnet3d.Model(resnet3d.TINY, rngs=nnx.Rngs(0))
    paths = {
        path: blob
        for stage in range(2, 6)
        for blob, path in _tiny_blobs(stage)
        if convert.find_slot(model, path)
    }
    blobs = {
        blob: rng.normal(size=convert.find_slot(model, path).foreign_shape)
        for path, blob in paths.items()
    }
    assert len(blobs) == len(convert.weight_slots(model))
    file = tmp_path / "tiny.pkl"
    leftovers = {"lr": np.float32(0.1), "model_iter": np.int64(9)}
    leftovers["conv1_w_momentum"] = blobs["conv1_w"]
    saved = {"blobs": blobs | leftovers}
    file.write_bytes(pickle.dumps(saved, protocol=2))

    convert.load_weights(model, file)

    kernel = np.float32(blobs["conv1_w"]).transpose(2, 3, 4, 1, 0)
    np.testing.assert_array_equal(model.slow.stem.conv.kernel[...], kernel)
    for path, blob in paths.items():
        slot = convert.find_slot(model, path)
        value = np.asarray(slot.variable[...])
        expected = np.float32(blobs[blob])
        if slot.axes is not None:
            expected = expected.transpose(slot.axes)
        np.testing.assert_array_equal(value, expected, err_msg=blob)


def _tiny_blobs(stage):
    """Yields Caffe2's blob and our path of what a one-block stage may have."""

    def norm(blob, path):
        for leaf, short in CAFFE2_NORM.items():
            yield f"{blob}_{short}", f"{path}.{leaf}"

    yield "pred_w", "head.projection.weight"
    yield "pred_b", "head.projection.bias"
    yield "conv1_w", "slow.stem.conv.weight"
    yield from norm("res_conv1_bn", "slow.stem.norm")
    block = f"slow.res{stage}.blocks.0"
    for branch, part in (
        ("branch1", "shortcut"),
        ("branch2a", "a"),
        ("branch2b", "b"),
        ("branch2c", "c"),
    ):
        blob = f"res{stage}_0_{branch}"
        yield f"{blob}_w", f"{block}.{part}.conv.weight"
        yield from norm(f"{blob}_bn", f"{block}.{part}.norm")
    attention, ours = f"nonlocal_conv{stage}_0", f"slow.res{stage}.non_local0"
    for part in ("theta", "phi", "g", "out"):
        yield f"{attention}_{part}_w", f"{ours}.{part}.weight"
        yield f"{attention}_{part}_b", f"{ours}.{part}.bias"
    yield from norm(f"{attention}_bn", f"{ours}.norm")


@pytest.mark.parametrize("window", [1, 3])
def test_an_image_network_is_inflated(run, rng, window):
    """A 2-D ResNet's weights: on a repeated frame it gives the 2-D answer."""
    tiny = resnet3d.dataclasses.replace(
        resnet3d.TINY, non_local_after=((), (), (), ()), temporal_pool=False
    )
    flat = resnet3d.Model(
        resnet3d.dataclasses.replace(tiny, windows=((1,),) * 4), rngs=nnx.Rngs(0)
    )
    deep = resnet3d.Model(
        resnet3d.dataclasses.replace(
            tiny, stem_window=window, windows=((window,),) * 4
        ),
        rngs=nnx.Rngs(1),
    )
    state = image_state(flat, rng)
    for model in (flat, deep):
        convert.convert_state_dict(model, state)
        model.eval()
    frame = jnp.asarray(rng.uniform(size=(1, 1, 32, 32, 3)), jnp.float32)
    # Five windows of 3 see 5 frames to each side of the one in the middle.
    clip = jnp.repeat(frame, 11, axis=1)

    def middle(model, clip):
        return model.features(clip)[:, clip.shape[1] // 2]

    expected = run(flat, frame, function=middle)
    actual = run(deep, clip, function=middle)
    np.testing.assert_allclose(actual, expected, atol=1e-4, rtol=1e-4)


def image_state(model, rng):
    """Returns weights for a tiny 2-D ResNet under torchvision's names."""
    state = {}

    def add(conv, norm, path):
        shape = convert.find_slot(model, f"{path}.conv.weight").foreign_shape
        shape = (*shape[:2], *shape[3:])
        scale = np.sqrt(2 / np.prod(shape[1:]))
        state[f"{conv}.weight"] = scale * rng.normal(size=shape)
        for leaf in NORM:
            state[f"{norm}.{leaf}"] = rng.uniform(0.5, 1.5, size=shape[0])

    add("conv1", "bn1", "slow.stem")
    for stage in range(1, 5):
        prefix, block = f"layer{stage}.0", f"slow.res{stage + 1}.blocks.0"
        for number, letter in ((1, "a"), (2, "b"), (3, "c")):
            add(f"{prefix}.conv{number}", f"{prefix}.bn{number}", f"{block}.{letter}")
        down = f"{prefix}.downsample"
        add(f"{down}.0", f"{down}.1", f"{block}.shortcut")
    for leaf in ("weight", "bias"):
        shape = convert.find_slot(model, f"head.projection.{leaf}").foreign_shape
        state[f"fc.{leaf}"] = rng.normal(size=shape)
    return state
