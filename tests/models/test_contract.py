"""What every model owes. New model files are found and tested by themselves.

Each published variant is only described (`nnx.eval_shape`), which is cheap; each file's
TINY config is run. Flow networks see two frames, recognition networks a clip, and
generation networks a noisy clip, its diffusion time and what else they take.
"""

import dataclasses
import functools
import importlib
import inspect
import pkgutil
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow import checkpoint, convert, cost, models, ops, spec, train
from jaxflow.layers import dropout, precision
from jaxflow.models.flow import tvnet

TASK_FOLDERS = {task: f"jaxflow.models.{task}" for task in models.TASKS}


def _files(task):
    package = importlib.import_module(TASK_FOLDERS[task])
    names = [info.name for info in pkgutil.iter_modules(package.__path__)]
    modules = [importlib.import_module(f"{package.__name__}.{name}") for name in names]
    return [module for module in modules if hasattr(module, "RECORD")]


FLOW, VIDEO, GENERATION = map(_files, models.TASKS)
ALL = FLOW + VIDEO + GENERATION
VARIANTS = [(module, name) for module in ALL for name in module.RECORD.variants]


def _label(value):
    return value.__name__.rpartition(".")[2] if inspect.ismodule(value) else str(value)


# All tests of a file run together, and share what was built and compiled.
_each = functools.partial(pytest.mark.parametrize, ids=_label, scope="module")
each_file = _each("module", ALL)
each_flow_file = _each("module", FLOW)
each_generation_file = _each("module", GENERATION)
each_video_file = _each("module", VIDEO)


def _ends(names):
    first, *_, last = [*names, *names]
    return {first, last}


# The first variant of a file and its last are described always.
ENDS = set().union(*(_ends(module.RECORD.variants) for module in ALL))
each_variant = _each(
    ("module", "name"),
    [
        pytest.param(*case, marks=() if case[1] in ENDS else pytest.mark.slow)
        for case in VARIANTS
    ],
)

# What is compiled for one property alone always runs for some networks of each family:
# encoder and decoder, pyramid, recurrence, two streams, diffusion. The others are slow
# tests. A new file is no twin until it is named here.
TWINS = {
    *("flownet2", "flownetc", "flownetfusion", "flownetsd", "hd3", "irr_pwc"),
    *("liteflownet", "vcn", "actionflownet", "c3d", "i3d_inception", "mfnet"),
    *("i3d_two_stream", "two_stream"),
    *("r2plus1d_bottleneck", "resnet3d", "s3d", "repflow_hmdb", "repflow_kinetics"),
    *("mcvd", "ramvid", "rvd", "unet3d", "scale_shared", "c3d_depth", "long_term"),
    *("artnet", "eco", "stc"),
}


def _but_twins(files):
    marks = (pytest.mark.slow if _label(file) in TWINS else () for file in files)
    return [
        pytest.param(file, marks=mark) for file, mark in zip(files, marks, strict=True)
    ]


each_family = _each("module", _but_twins(ALL))
each_flow_family = _each("module", _but_twins(FLOW))
each_video_family = _each("module", _but_twins(VIDEO))


@functools.cache
def tiny(module):
    """Returns a tiny model, split: (graphdef, state)."""
    model = module.Model(module.RECORD.tiny, rngs=nnx.Rngs(jax.random.key(0)))
    model.eval()
    # Zero-initialised weights, such as last layers of residual branches, would hide
    # whatever comes before them.
    numbers = np.random.default_rng(0)
    for slot in convert.weight_slots(model).values():
        noise = 0.03 * numbers.standard_normal(slot.variable.shape)
        if isinstance(slot.variable, nnx.Param):
            slot.variable[...] = jnp.asarray(
                np.asarray(slot.variable[...]) + noise, slot.variable.dtype
            )
    return nnx.split(model)


@functools.cache
def describe(module, name):
    """Returns a variant without its memory."""
    assert models.find(name) is module
    return cost.describe(name)


def inputs(module, *, batch=3, dtype=jnp.float32, seed=0):
    """Returns what a tiny model takes: two frames, one clip, or a noisy clip."""
    rng = np.random.default_rng(seed)
    if module in GENERATION:
        return generation_inputs(module, rng, batch, dtype)
    if module in VIDEO:
        side = module.RECORD.tiny.crop_size
        channels = getattr(module.RECORD.tiny, "in_features", 3)
        shape = (batch, module.RECORD.tiny.num_frames, side, side, channels)
        return (jnp.asarray(rng.uniform(size=shape), dtype),)
    graphdef, state = tiny(module)
    frames = nnx.merge(graphdef, state, copy=True).frames
    least = max(64, *frames.minimum)
    side = -(-least // frames.multiple) * frames.multiple
    size = module.RECORD.tiny_size or (side, side + max(frames.multiple, 32))
    return tuple(
        jnp.asarray(rng.uniform(size=(batch, *size, 3)), dtype) for _ in range(2)
    )


def generation_inputs(module, rng, batch, dtype):
    """Returns a noisy clip, times, what comes with the clip, and what conditions it."""
    config = module.RECORD.tiny
    shape = (batch, config.num_frames, config.image_size, config.image_size)
    clips = rng.normal(size=(2, *shape, config.channels))
    observed = np.zeros(shape[:2], bool)
    # The first frames are given: it is all that a network of the next frames takes.
    observed[:, : getattr(config, "num_past", 1)] = True
    companions = {
        "clean": jnp.asarray(clips[1], dtype),
        "observed": jnp.asarray(observed),
        "latent": jnp.asarray(~observed),
        "indices": jnp.broadcast_to(jnp.arange(shape[1]), shape[:2]),
    }
    arrays = [jnp.asarray(clips[0], dtype), jnp.asarray(rng.integers(1000, size=batch))]
    arrays += [companions[name] for name in module.Model.takes]
    if getattr(config, "num_classes", None):
        arrays.append(jnp.asarray(rng.integers(config.num_classes, size=batch)))
    if getattr(config, "cond_dim", None):
        arrays.append(jnp.asarray(rng.normal(size=(batch, config.cond_dim)), dtype))
        arrays.append(jnp.arange(batch) % 2 == 0)
    return tuple(arrays)


def call(module, model, *arrays):
    """Calls a model with what `inputs` returns."""
    if module not in GENERATION:
        return model(*arrays)
    noisy, time, *rest = arrays
    known = len(module.Model.takes)
    named = dict(zip(module.Model.takes, rest, strict=False))
    if len(rest) == known + 2:
        named["condition"] = module.Condition(*rest[known:])
    elif len(rest) == known + 1:
        named["condition"] = rest[known]
    return model(noisy, time, **named)


@functools.cache
def runner(module, training=False, dtype=jnp.float32):
    """Returns the jitted tiny model as a function of (state, *inputs)."""
    graphdef, _ = tiny(module)

    def run(state, *arrays):
        model = nnx.merge(graphdef, state, copy=True)
        precision.set_dtype(model, dtype)
        if training:
            model.train()
            dropout.seed(model, jax.random.key(0))
        return call(module, model, *arrays)

    return jax.jit(run)


def leaves(tree):
    return jax.tree.leaves(tree)


@each_file
def test_says_what_it_is(module):
    assert module.__doc__ and len(module.__doc__.splitlines()) > 3
    assert "eviations" in module.__doc__, "the docstring lists what differs"
    assert dataclasses.is_dataclass(module.Config)
    assert module.Config.__dataclass_params__.frozen
    assert all(field.kw_only for field in dataclasses.fields(module.Config))
    assert isinstance(module.RECORD.tiny, module.Config)
    assert module.Model.record is module.RECORD
    assert module.RECORD.model is module.Model
    assert module.RECORD.variants
    for config in module.RECORD.variants.values():
        assert isinstance(config, module.Config)
        hash(config)


@each_file
def test_a_bad_config_value_is_an_error_when_it_is_made(module):
    for field in dataclasses.fields(module.Config):
        for bad in (object(), -1, float("nan"), "no such choice"):
            with pytest.raises(ValueError, match=f"`{field.name}` must be"):
                dataclasses.replace(module.RECORD.tiny, **{field.name: bad})


@each_variant
def test_every_variant_can_be_created_by_name(module, name):
    task = module.__name__.split(".")[-2]
    assert name in models.list_models(task)
    assert describe(module, name).config == module.RECORD.variants[name]


@each_variant
def test_published_parameter_counts(module, name):
    for key, weights in module.RECORD.weights.items():
        if key.split("/")[0] == name:
            model = describe(module, name)
            if weights.config:
                model = models.describe(name, **weights.config)
            assert cost.count_parameters(model) == weights.num_params, key


@each_file
def test_weights_name_a_variant_and_a_dialect(module):
    for key, weights in module.RECORD.weights.items():
        assert isinstance(weights, spec.Weights)
        assert key.split("/")[0] in module.RECORD.variants
        assert weights.dialect in (*module.RECORD.keys, convert.OWN_DIALECT)
        assert weights.licence and weights.source and weights.file


def template_pattern(pattern, template):
    """Returns a regex for all paths that one row of a key table can give."""
    groups = _groups(pattern)
    parts = re.split(r"\\g<(\d+)>|\\(\d)", template)
    literal, rest = parts[0], parts[1:]
    found = re.escape(literal)
    for index in range(0, len(rest), 3):
        number = int(rest[index] or rest[index + 1])
        found += f"(?:{groups[number - 1]})" + re.escape(rest[index + 2])
    return re.compile(found)


def _groups(pattern):
    """Returns the sources of a regex's capturing groups."""
    found, opened, position = [], [], 0
    while position < len(pattern):
        character = pattern[position]
        if character == "\\":
            position += 1
        elif character == "(":
            captures = pattern[position + 1] != "?"
            opened.append((len(found) if captures else None, position + 1))
            if captures:
                found.append(None)
        elif character == ")":
            index, start = opened.pop()
            if index is not None:
                found[index] = pattern[start:position]
        position += 1
    return [re.sub(r"\((?!\?)", "(?:", group) for group in found]


def torch_paths(model):
    """Returns every weight's path: ours -> as key tables may spell it."""
    found = {}
    for path in convert.weight_slots(model):
        owner, _, leaf = path.rpartition(".")
        node = convert.node_at(model, owner)
        names = [t for t, (ours, _) in _torch_names(node).items() if ours == leaf]
        found[path] = [f"{owner}.{t}" if owner else t for t in names or [leaf]]
    return found


def _torch_names(node):
    return getattr(node, "torch_names", {})


def uncovered(module, name, dialect):
    """Returns the weights of a variant that no row of a key table gives.

    Two rows may give one weight, for the names that it has in two variants. That one
    checkpoint gives a weight once is verified whenever one is read.
    """
    model = describe(module, name)
    patterns = [
        template_pattern(pattern, template)
        for pattern, template in module.RECORD.keys[dialect]
        if template is not None
    ]
    return [
        path
        for path, spellings in torch_paths(model).items()
        if not convert.is_optional(model, path)
        and not any(p.fullmatch(torch) for p in patterns for torch in spellings)
    ]


@each_file
def test_every_dialect_covers_each_weight_of_some_variant(module):
    for dialect in module.RECORD.keys:
        gaps = {}
        for name in module.RECORD.variants:
            gaps[name] = uncovered(module, name, dialect)[:5]
            if not gaps[name]:
                break
        assert not all(gaps.values()), f"{dialect}: {gaps}"


@each_file
def test_published_weights_are_covered_by_their_dialect(module):
    for key, weights in module.RECORD.weights.items():
        if weights.dialect != convert.OWN_DIALECT:
            assert uncovered(module, key.split("/")[0], weights.dialect) == []


@each_family
def test_own_format_returns_the_same_weights(module, tmp_path):
    graphdef, state = tiny(module)
    model = nnx.merge(graphdef, state, copy=True)
    convert.save_weights(model, tmp_path / "w.safetensors")
    fresh = nnx.merge(graphdef, state, copy=True)
    for slot in convert.weight_slots(fresh).values():
        slot.fill(np.full(slot.variable.shape, np.nan))
    convert.load_weights(fresh, tmp_path / "w.safetensors")
    expected = convert.weight_slots(model)
    for path, slot in convert.weight_slots(fresh).items():
        np.testing.assert_array_equal(slot.variable[...], expected[path].variable[...])


@each_file
def test_output_shape_and_dtype(module):
    arrays = inputs(module)
    out = jax.eval_shape(runner(module), tiny(module)[1], *arrays)
    if module in VIDEO:
        assert out.shape == (3, module.RECORD.tiny.num_classes)
    elif module in GENERATION:
        assert out.shape == arrays[0].shape
    else:
        assert isinstance(out, spec.Flow)
        size = arrays[0].shape[:-1]
        assert out.flow.shape == (*size, 2)
        for part in (out.occlusion, out.confidence):
            assert part is None or part.shape == size
    assert all(leaf.dtype == jnp.float32 for leaf in leaves(out))


@each_family
def test_output_is_finite(module):
    out = runner(module)(tiny(module)[1], *inputs(module))
    assert all(np.isfinite(leaf).all() for leaf in leaves(out))
    if module in FLOW:
        for part in (out.occlusion, out.confidence):
            assert part is None or (jnp.abs(part - 0.5) <= 0.5).all()


@each_family
def test_examples_of_a_batch_do_not_meet(module):
    run, state = runner(module), tiny(module)[1]
    arrays, others = inputs(module), inputs(module, seed=1)
    out = leaves(run(state, *arrays))
    mixed = [np.stack([b[0], a[0], b[1]]) for a, b in zip(arrays, others, strict=True)]
    # The first example, in another place and in other company. XLA may sum the places
    # of a batch in different orders.
    for alone, beside in zip(out, leaves(run(state, *mixed)), strict=True):
        np.testing.assert_allclose(beside[1], alone[0], atol=1e-4, rtol=1e-4)
    assert np.any(out[0][1] != out[0][0]), "the input has no effect"


@each_family
def test_two_calls_trace_once(module):
    graphdef, state = tiny(module)
    traces = []

    @jax.jit
    def run(state, *arrays):
        traces.append(1)
        return call(module, nnx.merge(graphdef, state, copy=True), *arrays)

    for seed in range(2):
        jax.eval_shape(run, state, *inputs(module, seed=seed))
    assert len(traces) == 1
    hash(graphdef)


@each_family
def test_every_weight_has_a_finite_gradient_and_some_effect(module):
    graphdef, state = tiny(module)
    graphdef, params, rest = nnx.split(
        nnx.merge(graphdef, state, copy=True), nnx.Param, ...
    )
    arrays = inputs(module, batch=1)

    @jax.jit
    @jax.grad
    def gradient(params, rest, *arrays):
        model = nnx.merge(graphdef, params, rest, copy=True)
        model.train()
        dropout.seed(model, jax.random.key(0))
        # ActionFlowNet's flow is another call than its scores, and the occlusion of
        # IRR-PWC's levels another than its flow.
        names = {"both", "both_directions"} & set(dir(model))
        learns = getattr(model, names.pop()) if names else model
        outputs = leaves(call(module, learns, *arrays))
        floats = [x for x in outputs if jnp.issubdtype(x.dtype, jnp.floating)]
        return sum(jnp.sum(jnp.sin(x.astype(jnp.float32))) for x in floats)

    model = nnx.merge(graphdef, params, rest, copy=True)
    for parts, variable in nnx.to_flat_state(gradient(params, rest, *arrays)):
        path = ".".join(str(part) for part in parts)
        value = np.asarray(variable[...])
        assert np.isfinite(value).all(), path
        if not convert.is_optional(model, path):
            assert value.any(), f"{path} has no effect"


# Untrained, a least rounding decides on another match, which the next stage follows.
DECIDING = {"flownet2", "hd3", "vcn"}


@each_family
def test_bfloat16_computes_what_float32_does(module):
    arrays, state = inputs(module), tiny(module)[1]
    if module in VIDEO:
        arrays = (panned(*arrays),)
    exact = runner(module)(state, *arrays)
    half = runner(module, dtype=jnp.bfloat16)(state, *arrays)
    assert {leaf.dtype for leaf in leaves(half)} == {jnp.dtype("float32")}
    if module in FLOW:
        exact, half = exact.flow, half.flow
    exact, half = np.asarray(exact), np.asarray(half)
    # TV-L1 has no features, and is the same in every type.
    assert np.any(half != exact) == (module is not tvnet)
    bar, error = deviation(module, exact, half)
    if _label(module) in DECIDING:
        bar = 0.25 * np.linalg.norm(exact, axis=-1).mean()
    assert error <= bar


@pytest.mark.slow
@pytest.mark.parametrize("name", ["eco", "artnet_resnet18"])
def test_bfloat16_of_whole_networks_computes_what_float32_does(name):
    """Their tiny ones leave parts out."""
    rng = np.random.default_rng(0)
    clip = panned(jnp.asarray(rng.uniform(size=(1, 8, 64, 64, 3)), jnp.float32))
    graphdef, state = nnx.split(models.create_model(name))

    def run(dtype):
        model = nnx.merge(graphdef, state, copy=True)
        precision.set_dtype(model, dtype)
        graph, values = nnx.split(model)
        return jax.jit(lambda values, x: nnx.merge(graph, values)(x))(values, clip)

    exact, found = (np.asarray(run(dtype)) for dtype in (jnp.float32, jnp.bfloat16))
    assert found.dtype == np.float32 and np.any(found != exact)
    bar, error = deviation(models.find(name), exact, found)
    assert error <= bar


def panned(clip):
    """Returns a clip whose frames are alike, as those of a video are."""
    frames = [jnp.roll(clip[:, 0], time, axis=2) for time in range(clip.shape[1])]
    return jnp.stack(frames, axis=1)


def deviation(module, exact, half):
    """Returns what a coarser type may change, and the most that it does."""
    if module in VIDEO:
        # Normalisation has not seen data here. With weights of published scale, the
        # logits of untrained networks have a deviation of 1, not of 30.
        scale = min(1, float(1 / np.std(exact, dtype=np.float64)))
        scores = (jax.nn.softmax(scale * logits) for logits in (exact, half))
        return 0.02, np.abs(np.subtract(*scores)).max()
    if module in GENERATION:
        # Of the noise that is predicted, relative to all of it.
        return 0.02, np.linalg.norm(half - exact) / np.linalg.norm(exact)
    # End-point error in pixels; fast flow is less exact.
    speed = np.linalg.norm(exact, axis=-1)
    bar = max(0.25, 0.01 * np.quantile(speed, 0.99))
    return bar, np.linalg.norm(half - exact, axis=-1).mean()


def products(module, arrays, dtype):
    """Returns the types that convolutions and products of a tiny model give."""
    function = functools.partial(runner(module, dtype=dtype), tiny(module)[1])
    text = str(jax.make_jaxpr(function)(*arrays))
    pattern = (
        r":(\w+)\[[\d,]*\] = (?:conv_general_dilated|convolution\w*|dot_general)\["
    )
    return set(re.findall(pattern, text))


@each_family
def test_the_model_and_not_its_input_decides_what_it_computes_in(module):
    for dtype in (jnp.bfloat16, jnp.float16):
        assert products(module, inputs(module, dtype=dtype), jnp.float32) == {"f32"}
    if module is not tvnet:
        assert "bf16" in products(module, inputs(module), jnp.bfloat16)


@each_family
def test_half_precision_runs(module):
    run, state = runner(module), tiny(module)[1]
    # All widen their input at the door, as the test above finds.
    for dtype in (jnp.bfloat16, jnp.float16):
        out = jax.eval_shape(run, state, *inputs(module, dtype=dtype))
        assert all(leaf.dtype == jnp.float32 for leaf in leaves(out))


@each_flow_family
def test_flow_has_one_type_whatever_the_mode(module):
    arrays = inputs(module)
    found = {
        training: jax.eval_shape(runner(module, training), tiny(module)[1], *arrays)
        for training in (False, True)
    }
    assert found[True] == found[False]
    flows = found[True].predictions
    assert isinstance(flows, tuple) and flows
    sizes = [flow.shape[1] for flow in flows]
    assert sizes == sorted(sizes)
    assert all(flow.shape[0] == 3 and flow.shape[-1] == 2 for flow in flows)


@each_flow_family
def test_the_best_prediction_is_the_flow(module):
    graphdef, state = tiny(module)
    frames = nnx.merge(graphdef, state, copy=True).frames
    out = runner(module)(state, *inputs(module))
    size, align = out.flow.shape[1:3], frames.flow_method == "align_corners"
    best = ops.resize_flow(out.predictions[-1], size, align_corners=align)
    np.testing.assert_allclose(out.flow, best, atol=1e-4)


@each_flow_file
def test_a_size_that_does_not_fit_raises(module):
    graphdef, state = tiny(module)
    model = nnx.merge(graphdef, state, copy=True)
    frames = model.frames
    if frames.multiple == 1 and frames.minimum == (1, 1):
        pytest.skip("takes every size")
    image1, image2 = inputs(module)
    bad = image1[:, :-1] if frames.multiple > 1 else image1[:, :1]
    with pytest.raises(ValueError, match=r"multiples of|at least"):
        model(bad, bad)
    with pytest.raises(ValueError, match="alike"):
        model(image1, image2[:, :, :-1])
    with pytest.raises(ValueError, match="floating"):
        model(*(np.zeros_like(image, np.uint8) for image in (image1, image2)))


@each_generation_file
def test_a_clip_that_does_not_fit_raises(module):
    graphdef, state = tiny(module)
    model = nnx.merge(graphdef, state, copy=True)
    noisy, time, *_ = inputs(module)
    bad = {
        "B, T, H, W": (noisy[0], time),
        "floating": (np.zeros_like(noisy, np.uint8), time),
        "`time` must be": (noisy, time[:, None]),
    }
    if model.multiple > 1:
        bad["multiples of"] = (noisy[:, :, :-1], time)
    for message, arrays in bad.items():
        with pytest.raises(ValueError, match=message):
            model(*arrays)
    companions = {"clean": noisy, "observed": time, "latent": time, "indices": time}
    for name, value in companions.items():
        right = name in model.takes
        misfit = value[:, :, :-1] if name == "clean" and right else value
        with pytest.raises(ValueError, match=f"`{name}` must be" if right else name):
            model(noisy, time, **{name: misfit})


@each_video_file
def test_what_is_no_clip_raises(module):
    graphdef, state = tiny(module)
    model = nnx.merge(graphdef, state, copy=True)
    (clip,) = inputs(module, batch=1)
    with pytest.raises(ValueError, match="batch axis"):
        model(clip[0])
    with pytest.raises(ValueError, match="must be"):
        model(clip[..., :1])
    with pytest.raises(ValueError, match="divide 8-bit"):
        model(np.zeros(clip.shape, np.uint8))
    with pytest.raises(ValueError, match="must"):
        jax.eval_shape(model, jax.ShapeDtypeStruct((1, 0, *clip.shape[2:]), clip.dtype))


@each_video_family
@pytest.mark.parametrize("setting", ["crop_size", "num_frames"])
def test_a_size_that_leaves_nothing_is_one_clear_error(module, setting):
    """Whatever size a config or a clip asks for, it runs or is refused by name."""
    for size in (1, 2, 7, 16):
        try:
            config = dataclasses.replace(module.RECORD.tiny, **{setting: size})
            model = nnx.eval_shape(lambda c=config: module.Model(c, rngs=nnx.Rngs(0)))
            channels = getattr(config, "in_features", 3)
            side = (config.crop_size, config.crop_size, channels)
            clip = jax.ShapeDtypeStruct((1, config.num_frames, *side), jnp.float32)
            out = nnx.eval_shape(lambda model, clip: model(clip), model, clip)
        except ValueError as error:
            assert re.search(f"`{setting}`|`clip`|flow needs", str(error)), error
        else:
            assert out.shape == (1, config.num_classes)


@each_video_family
def test_training_drops_by_its_key_and_evaluation_never(module):
    config = module.RECORD.tiny
    drops = hasattr(config, "dropout_rate")
    if drops:
        config = dataclasses.replace(config, dropout_rate=0.5)
    model = module.Model(config, rngs=nnx.Rngs(0))
    weights = checkpoint.weights_of(model)
    (clip,) = inputs(module, batch=2)
    evaluated = str(
        jax.make_jaxpr(lambda clip: model(clip, key=jax.random.key(0)))(clip)
    )
    assert "random_bits" not in evaluated
    graphdef, state = nnx.split(model)

    def trained(state, clip):
        model = nnx.merge(graphdef, state, copy=True)
        model.train()
        return model(clip)

    if not drops:
        assert "random_bits" not in str(jax.make_jaxpr(trained)(state, clip))
        return
    with pytest.raises(ValueError, match="random numbers"):
        jax.eval_shape(trained, state, clip)

    rebuild = train.separate(model)

    @jax.jit
    def draws(weights, keys, clip):
        def draw(key):
            return rebuild(weights["params"], weights["stats"], key)(clip)

        return jax.lax.map(draw, keys)

    keys = jnp.stack([jax.random.key(seed) for seed in (1, 1, 2)])
    one, same, other = np.asarray(draws(weights, keys, clip))
    np.testing.assert_array_equal(one, same)
    assert np.all(one != other)


@each_flow_file
def test_flow_networks_draw_nothing(module):
    nodes = (node for _, node in nnx.iter_graph(nnx.merge(*tiny(module), copy=True)))
    assert not any(isinstance(node, dropout.Dropout) for node in nodes)
