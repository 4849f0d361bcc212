"""Bilinear maps that have a faster form on a CPU, and all derivatives everywhere.

A bilinear map c = f(a, b) has two transposes, which are bilinear too:

    c = f(a, b)        a = f_first(c, b)        b = f_second(a, c)

so that <c, f(a, b)> = <a, f_first(c, b)> = <b, f_second(a, c)>. Each transpose of each
of the three is one of the others: as primitives of JAX they are closed under
differentiation, forward or reverse, of any order. What a primitive computes is looked
up when a program is lowered for a platform: its plain form, or on a CPU another form
of the same map. A form is never differentiated.
"""

import functools
from collections.abc import Callable, Hashable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.sharding import PartitionSpec

# Places of the two arguments and the result, in the order of the fields of `Forms`.
_ROLES = ("abc", "cba", "acb")


class Forms(NamedTuple):
    """What computes a bilinear map and its two transposes.

    Attributes:
        out: (a, b, like, settings) -> c.
        first: (c, b, like, settings) -> a.
        second: (a, c, like, settings) -> b. `like` is the `jax.ShapeDtypeStruct` of the
            result, and `settings` what the map was called with.
    """

    out: Callable
    first: Callable
    second: Callable


class Map(NamedTuple):
    """A bilinear map and its transposes, as functions that JAX differentiates.

    Attributes:
        out: (a, b, settings) -> c.
        first: (c, b, like, settings) -> a.
        second: (a, c, like, settings) -> b. `like` has the shape and dtype of the
            result.
        primitives: The three in this order.
    """

    out: Callable
    first: Callable
    second: Callable
    primitives: tuple["Bilinear", ...]


class Bilinear(Primitive):
    """A bilinear map, or one of its transposes, in the programs that JAX traces.

    Attributes:
        plain: What it computes, as one of `Forms`.
        on_cpu: What it computes on a CPU.
    """

    def __init__(self, name: str, plain: Callable, on_cpu: Callable):
        super().__init__(name)
        self.plain = plain
        self.on_cpu = on_cpu


def in_first(form: Callable) -> Callable:
    """Derives `Forms.first` from `Forms.out`, by transposition."""

    def transposed(c, b, like, settings):
        return _transposed(lambda a: form(a, b, _struct(c), settings), like, c)

    return transposed


def in_second(form: Callable) -> Callable:
    """Derives `Forms.second` from `Forms.out`, by transposition."""

    def transposed(a, c, like, settings):
        return _transposed(lambda b: form(a, b, _struct(c), settings), like, c)

    return transposed


def _transposed(linear, like, cotangent):
    if axes := _varying(cotangent):
        # Else what it is used with would vary more, and be summed over the mesh.
        like = _vary(jnp.zeros(like.shape, like.dtype), tuple(sorted(axes)))
    return jax.linear_transpose(linear, like)(cotangent)[0]


def bilinear(
    name: str, plain: Forms, on_cpu: Forms, *, examples: tuple[bool, bool, bool]
) -> Map:
    """Makes a bilinear map whose form is chosen by the platform.

    Args:
        name: Of the map, in printed programs.
        plain: Forms for all platforms.
        on_cpu: Forms for CPUs.
        examples: Which of a, b and c have a first axis of examples, each of which is
            mapped alone. There `jax.vmap` needs no form of its own.

    Returns:
        The map. Its arguments may have any dtype that the plain form takes; it exists
        under `jit`, `vmap`, `grad`, `jvp`, `scan`, `checkpoint` and `shard_map`.
    """
    names = (name, f"{name}_in_first", f"{name}_in_second")
    primitives = tuple(map(Bilinear, names, plain, on_cpu))
    makers = {role[-1]: made for role, made in zip(_ROLES, primitives, strict=True)}
    for primitive, role in zip(primitives, _ROLES, strict=True):
        ad.defbilinear(
            primitive,
            functools.partial(_transpose, makers, role, 0),
            functools.partial(_transpose, makers, role, 1),
        )
        batching.primitive_batchers[primitive] = functools.partial(
            _map, primitive, [examples["abc".index(letter)] for letter in role]
        )
        primitive.def_abstract_eval(_abstract)
        primitive.def_impl(functools.partial(_run_alone, primitive))
        lower(primitive, primitive.plain)
        lower(primitive, primitive.on_cpu, platform="cpu")

    def out(a, b, settings):
        like = jax.eval_shape(lambda a, b: plain.out(a, b, None, settings), a, b)
        return _bind(primitives[0], a, b, like, settings)

    first, second = (functools.partial(_bind, made) for made in primitives[1:])
    return Map(out, first, second, primitives)


def lower(primitive: Primitive, form: Callable, platform: str | None = None) -> None:
    """Says what a primitive computes, on one platform or on all others."""

    def computed(one, two, **parameters):
        return run(form, **parameters)(one, two)

    rule = mlir.lower_fun(computed, multiple_results=False)
    mlir.register_lowering(primitive, rule, platform=platform)


def run(form: Callable, *, like, settings, depth: int) -> Callable:
    """Returns a form as a function of its two arrays, given a primitive's parameters.

    Args:
        form: One of `Forms`.
        like: The shape and dtype of the result.
        settings: What the map was called with.
        depth: Number of leading axes, of both arrays, that it is mapped over.
    """

    def function(one, two):
        return form(one, two, like, settings)

    for _ in range(depth):
        function = jax.vmap(function)
    return function


def _bind(primitive, one, two, like, settings: Hashable):
    one, two = _varying_alike(jnp.asarray(one), jnp.asarray(two))
    return primitive.bind(one, two, like=_struct(like), settings=settings, depth=0)


def _struct(x) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype)


def _varying_alike(one, two):
    """Marks both as varying over the same axes of a mesh, where `shard_map` asks."""
    axes = [_varying(x) for x in (one, two)]
    every = axes[0] | axes[1]
    return tuple(
        _vary(x, tuple(sorted(every - own))) if every - own else x
        for x, own in zip((one, two), axes, strict=True)
    )


def _varying(x) -> frozenset:
    kind = jax.typeof(x)
    if hasattr(kind, "manual_axis_type"):
        return kind.manual_axis_type.varying
    return getattr(kind, "vma", frozenset())


def _vary(x, axes):
    if hasattr(lax, "pcast"):
        return lax.pcast(x, axes, to="varying")
    return lax.pvary(x, axes)  # JAX 0.7  # pyright: ignore[reportAttributeAccessIssue]


def _abstract(one, two, *, like, settings, depth):
    del settings
    shape = (*one.shape[:depth], *like.shape)
    sharding = one.sharding.update(spec=PartitionSpec(*[None] * len(shape)))
    return one.update(shape=shape, dtype=like.dtype, weak_type=False, sharding=sharding)


def _run_alone(primitive, *arrays, **parameters):
    """Runs a primitive outside of any program, as a program of its own."""
    with jax.disable_jit(False):
        return _program(primitive, **parameters)(*arrays)


@functools.cache
def _program(primitive, **parameters):
    return jax.jit(functools.partial(primitive.bind, **parameters))


def _transpose(makers, role, missing, cotangent, *arrays, like, settings, depth):
    """Binds the primitive that makes the argument in place `missing`."""
    known = dict(zip(role, (*arrays, cotangent), strict=True))
    wanted = known.pop(role[missing]).aval
    primitive = makers[role[missing]]
    order = next(r for r in _ROLES if r[-1] == role[missing])
    like = jax.ShapeDtypeStruct(wanted.shape[depth:], wanted.dtype)
    return primitive.bind(
        *(known[letter] for letter in order[:2]),
        like=like,
        settings=settings,
        depth=depth,
    )


def _map(primitive, examples, arrays, axes, *, like, settings, depth):
    """Maps over an axis: as more examples where that can be, or as a deeper map."""
    one, two = zip(arrays, axes, strict=True)
    size = next(x.shape[axis] for x, axis in (one, two) if axis is not None)

    def in_front(x, axis):
        if axis is None:
            return jnp.broadcast_to(x, (size, *x.shape))
        return jnp.moveaxis(x, axis, 0)

    def fold(x, axis, has_examples):
        if not has_examples:
            return x
        x = in_front(x, axis)
        return x.reshape(size * x.shape[1], *x.shape[2:])

    fits = all(e or axis is None for e, axis in zip(examples, (*axes, 0), strict=True))
    if depth or not fits:
        arrays = (in_front(*one), in_front(*two))
        deeper = primitive.bind(*arrays, like=like, settings=settings, depth=depth + 1)
        return deeper, 0
    arrays = (fold(*one, examples[0]), fold(*two, examples[1]))
    wide = jax.ShapeDtypeStruct((size * like.shape[0], *like.shape[1:]), like.dtype)
    out = primitive.bind(*arrays, like=wide, settings=settings, depth=0)
    return out.reshape(size, *like.shape), 0
