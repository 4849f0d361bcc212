"""Programs for accelerators, made without one: they lower, and hold no CPU form.

What is faster on a CPU is chosen by `lax.platform_dependent`, or by the primitives of
`jaxflow.ops.bilinear`. A program for an accelerator must count the same operations, one
by one, as the one that is made where both are put out of action and take their default.
"""

import collections
import functools
import importlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax import export, lax

from jaxflow import losses, ops, train
from jaxflow.diffusion import masks, process, training
from jaxflow.layers import attention, non_local, precision
from jaxflow.models.generation import fdm
from jaxflow.ops import bilinear
from tests import test_api
from tests.models import test_contract

ACCELERATORS = ("cuda", "tpu")
PRIMITIVES = (
    *importlib.import_module("jaxflow.ops.conv").CONVOLUTION.primitives,
    *importlib.import_module("jaxflow.ops.correlation").TILES.primitives,
    *importlib.import_module("jaxflow.ops.quads").QUADS.primitives,
)
# How the chosen branch is called, and not what it computes.
NO_WORK = {"broadcast_in_dim", "case", "constant", "return"}
# Weights as wide as those of a published network: small ones have no form of their own.
WIDE = np.ones((3, 3, 128, 192), np.float32)


def struct(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


def slope(call):
    """Returns a function of arrays that gives `call`'s results and their slopes."""

    def squares(*arrays):
        results = call(*arrays)
        floats = [
            leaf.astype(jnp.float32)
            for leaf in jax.tree.leaves(results)
            if jnp.issubdtype(leaf.dtype, jnp.floating)
        ]
        return sum((jnp.sum(leaf**2) for leaf in floats), jnp.float32(0)), results

    def both(*arrays):
        every = range(len(arrays))
        return jax.value_and_grad(squares, argnums=every, has_aux=True)(*arrays)

    return both


def an_op(name, dtype):
    call, shapes = test_api.ROWS[name]
    structs = [struct(2, *shape, dtype=dtype) for shape in shapes]
    if name in ("pixel_grid", "gaussian_kernel", "roi_align"):  # no batch axis
        structs = [struct(*shape, dtype=dtype) for shape in shapes]
    return (slope(call) if structs else call), structs


def a_network(module):
    def run(state, *arrays):
        return test_contract.runner(module)(state, *arrays)

    return run, (test_contract.tiny(module)[1], *test_contract.inputs(module, batch=1))


def a_step(module, loss, batch, dtype):
    """Returns the whole step of a tiny network: loss, gradient, Adam."""
    model = nnx.merge(*test_contract.tiny(module), copy=True)
    precision.set_dtype(model, dtype)
    optimiser = optax.adam(1e-3)
    step = train.make_step(
        model, loss, optimiser, mesh=train.data_mesh(jax.devices()[:1])
    )
    state = jax.eval_shape(lambda: train.init(model, optimiser))
    return step.run, (state, batch)


def flow_step(module, dtype=jnp.float32):
    frame1, frame2 = test_contract.inputs(module, batch=2)

    def loss(model, batch):
        flows = model(*batch["frames"]).predictions
        return losses.multi_scale(flows, batch["flow"], weights=(1.0,) * len(flows))

    flow = struct(*frame1.shape[:3], 2)
    batch = {"frames": (frame1, frame2), "flow": flow}
    return a_step(module, loss, batch, dtype)


def video_step(module, dtype=jnp.float32):
    (clip,) = test_contract.inputs(module, batch=2)

    def loss(model, batch):
        logits = model(batch["clip"])
        return optax.softmax_cross_entropy_with_integer_labels(
            logits, batch["label"]
        ).mean()

    batch = {"clip": clip, "label": struct(2, dtype=jnp.int32)}
    return a_step(module, loss, batch, dtype)


def generation_step(module, dtype=jnp.float32):
    config = module.RECORD.tiny
    frames = np.arange(config.num_frames)
    videos = struct(2, len(frames), *[config.image_size] * 2, config.channels)
    diffusion = nnx.merge(*test_contract.tiny(module), copy=True).process

    def draw(key, videos):
        numbers = jnp.broadcast_to(frames, (2, len(frames)))
        given = (numbers < getattr(config, "num_past", 1)).astype(jnp.float32)
        noised = process.add_noise(key, diffusion, videos)
        classes = jnp.zeros(2, jnp.int32) if getattr(config, "num_classes", 0) else None
        selection = masks.Selection(numbers, given, 1 - given)
        return training.Batch(noised, videos, selection, classes)

    batch = jax.eval_shape(draw, jax.random.key(0), videos)
    return a_step(module, training.loss, batch, dtype)


# Name -> () -> (function, what it is called with).
OPS = {
    f"{name} in {jnp.dtype(dtype).name}": functools.partial(an_op, name, dtype)
    for dtype in (jnp.float32, jnp.bfloat16)
    for name in test_api.ROWS
    if dtype == jnp.float32 or name not in ("pixel_grid", "resize_opencv_uint8")
}
FORMS = {
    "wide convolution": lambda: (
        slope(functools.partial(ops.conv, padding=1)),
        (struct(1, 48, 64, 128), WIDE),
    ),
    "depthwise convolution": lambda: (
        slope(functools.partial(ops.conv, padding=1, groups=6)),
        (struct(1, 9, 8, 6), np.ones((3, 3, 1, 6), np.float32)),
    ),
    "depthwise convolution of clips": lambda: (
        slope(functools.partial(ops.conv3d, padding=1, groups=6)),
        (struct(1, 5, 9, 8, 6), np.ones((3, 3, 3, 1, 6), np.float32)),
    ),
    "mapped convolution of clips": lambda: (
        jax.vmap(slope(ops.conv3d)),
        (struct(2, 5, 9, 8, 3), struct(2, 3, 1, 1, 3, 4)),
    ),
    "wide correlation": lambda: (
        slope(functools.partial(ops.local_correlation, radius=4)),
        (struct(1, 16, 24, 32), struct(1, 16, 24, 32)),
    ),
}
NETWORKS = {m.__name__.rpartition(".")[2]: m for m in test_contract.ALL}
STEPS = {
    "pwcnet": flow_step,
    "repflow": video_step,
    "slowfast": video_step,
    **dict.fromkeys(("fdm", "mcvd", "ramvid", "rvd", "unet3d"), generation_step),
}
HALF_STEPS = ("fdm", "pwcnet", "slowfast")
QUICK = ("repflow", "step of pwcnet")
PROGRAMS = {
    **OPS,
    **FORMS,
    **{n: functools.partial(a_network, m) for n, m in NETWORKS.items()},
    **{f"step of {n}": functools.partial(f, NETWORKS[n]) for n, f in STEPS.items()},
    **{
        f"step of {n} in bfloat16": functools.partial(
            STEPS[n], NETWORKS[n], jnp.bfloat16
        )
        for n in HALF_STEPS
    },
}


def operations(name, *, platforms=ACCELERATORS):
    """Lowers a program, and counts its operations as often as they are called.

    Returns:
        Platform -> operation -> number.
    """
    function, arrays = PROGRAMS[name]()
    compiled = function if hasattr(function, "lower") else jax.jit(function)
    # A lowering for a platform that is not there may not be run, and need not be.
    return {
        platform: counted(
            export.export(compiled, platforms=[platform])(*arrays).mlir_module()
        )
        for platform in platforms
    }


def counted(text):
    """Counts the operations of a program's text, those of its functions included."""
    functions = {}
    for part in re.split(r"(?=\bfunc\.func )", text)[1:]:
        name = re.search(r"@([\w.$-]+)", part)[1]
        work = collections.Counter(re.findall(r"\b((?:stable|c)hlo\.\w+)", part))
        calls = collections.Counter(re.findall(r"\bcall @([\w.$-]+)", part))
        functions[name] = work, calls

    @functools.cache
    def total(name):
        work, calls = functions[name]
        found = collections.Counter(work)
        for other, times in calls.items():
            for operation, number in total(other).items():
                found[operation] += times * number
        return found

    found = {name.split(".")[1]: number for name, number in total("main").items()}
    return {name: n for name, n in found.items() if name not in NO_WORK}


@pytest.fixture
def plain(monkeypatch):
    """Returns a function that puts all forms for one platform out of action."""

    def apply():
        monkeypatch.setattr(
            lax, "platform_dependent", lambda *arrays, default, **_: default(*arrays)
        )
        for primitive in PRIMITIVES:
            bilinear.lower(primitive, primitive.plain, platform="cpu")
        jax.clear_caches()
        test_contract.runner.cache_clear()

    yield apply
    monkeypatch.undo()
    for primitive in PRIMITIVES:
        bilinear.lower(primitive, primitive.on_cpu, platform="cpu")
    jax.clear_caches()
    test_contract.runner.cache_clear()


def assert_no_cpu_form(plain, names):
    found = {name: operations(name) for name in names}
    plain()
    for name in names:
        assert found[name] == operations(name), name
        assert all(found[name].values()), name


GROUPS = [[name for name in OPS if name.endswith(kind)] for kind in ("32", "16")]


@pytest.mark.parametrize(
    "names",
    [GROUPS[0], pytest.param(GROUPS[1], marks=pytest.mark.slow)],
    ids=["float32", "bfloat16"],
)
def test_ops_and_their_slopes_hold_no_cpu_form_on_accelerators(plain, names):
    assert_no_cpu_form(plain, names)


@pytest.mark.parametrize("name", FORMS)
def test_a_form_for_cpus_stays_on_cpus(plain, name):
    here = operations(name, platforms=["cpu"])
    assert_no_cpu_form(plain, [name])
    # The count can tell: on a CPU there is one.
    assert here != operations(name, platforms=["cpu"])


@pytest.mark.parametrize("name", QUICK)
def test_networks_and_their_training_hold_no_cpu_form_on_accelerators(plain, name):
    assert_no_cpu_form(plain, [name])


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*PROGRAMS} - {*OPS} - {*FORMS} - {*QUICK}))
def test_every_network_holds_no_cpu_form_on_accelerators(plain, name):
    assert_no_cpu_form(plain, [name])


def a_layer(make, *inputs):
    graph, state = nnx.split(nnx.eval_shape(lambda: make(nnx.Rngs(0))))

    def run(state, *arrays):
        return nnx.merge(graph, state)(*arrays)

    return run, (state, *inputs)


half = functools.partial(struct, dtype=jnp.bfloat16)
TOKENS = (half(2, 2, 3, 8), half(2, 2, 5, 8), half(2, 2, 5, 8))
CLIPS = half(1, 3, 4, 4, 8)
RELATIVE = fdm.Config(num_heads=2, groups=2, time_encoding="relative")
# Name -> () -> (layer, what it is called with).
HALF = {
    "softmax attention": lambda: (attention.softmax_attention, TOKENS),
    "linear attention": lambda: (attention.linear_attention, TOKENS),
    "non-local block": lambda: a_layer(
        lambda rngs: non_local.NonLocal(8, 4, rngs=rngs), CLIPS
    ),
    "attention over frames": lambda: a_layer(
        lambda rngs: fdm.FrameAttention(8, RELATIVE, 6, rngs=rngs),
        CLIPS, half(1, 1, 6), struct(1, 3), struct(1, 3, 3, dtype=bool),
    ),
}  # fmt: skip


# Numbers of frames are float32: three small networks take them, there and back.
SINGLE = {"attention over frames": 6}


@pytest.mark.parametrize("name", HALF)
def test_products_of_half_precision_are_so_on_the_way_back(name):
    function, arrays = HALF[name]()

    def total(floats, others):
        out = function(*floats, *others)
        return jnp.sum(jnp.square(out.astype(jnp.float32)))

    others = [x for x in arrays[1:] if getattr(x, "dtype", None) != jnp.bfloat16]
    floats = arrays[: len(arrays) - len(others)]
    slope = jax.jit(jax.grad(total, allow_int=True))
    text = export.export(slope, platforms=["tpu"])(floats, others).mlir_module()
    products = re.findall(
        r"stablehlo\.(?:dot_general|convolution)\b.*: \((.*)\) ->", text
    )
    # Two on the way back for each on the way there.
    assert len(products) >= 6
    kinds = [tuple(re.findall(r"x([a-z]+\d+)>", each)) for each in products]
    single = SINGLE.get(name, 0)
    assert kinds.count(("f32", "f32")) == single
    assert kinds.count(("bf16", "bf16")) == len(kinds) - single


def test_operations_are_counted_as_often_as_they_are_called():
    @jax.jit
    def inner(x):
        return jnp.sin(x) * 2

    program = jax.jit(lambda x: inner(inner(x)) + jnp.cos(x))
    text = export.export(program, platforms=["tpu"])(struct(3)).mlir_module()
    work = counted(text)
    assert (work["sine"], work["cosine"], work["multiply"]) == (2, 1, 2)
