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
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.sharding import PartitionSpec

from jaxflow import _mesh

# Places of the two arguments and the result, in the order of the fields of `Forms`.
_ROLES = ("abc", "cba", "acb")


class Forms(NamedTuple):
    """What computes a bilinear map and its two transposes.

    Attributes:
        out: (a, b, like, settings, *places) -> c.
        first: (c, b, like, settings, *places) -> a.
        second: (a, c, like, settings, *places) -> b. `like` is the
            `jax.ShapeDtypeStruct` of the result, `settings` what the map was called
            with, and `places` the integers that say what meets what, if it has any.
    """

    out: Callable
    first: Callable
    second: Callable


class Map(NamedTuple):
    """A bilinear map and its transposes, as functions that JAX differentiates.

    Attributes:
        out: (a, b, settings, *places) -> c.
        first: (c, b, like, settings, *places) -> a.
        second: (a, c, like, settings, *places) -> b. `like` has the shape and dtype of
            the result.
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

    def transposed(c, b, like, settings, *places):
        return _transposed(lambda a: form(a, b, _struct(c), settings, *places), like, c)

    return transposed


def in_second(form: Callable) -> Callable:
    """Derives `Forms.second` from `Forms.out`, by transposition."""

    def transposed(a, c, like, settings, *places):
        return _transposed(lambda b: form(a, b, _struct(c), settings, *places), like, c)

    return transposed


def _transposed(linear, like, cotangent):
    return jax.linear_transpose(linear, like)(cotangent)[0]


def bilinear(
    name: str,
    plain: Forms,
    on_cpu: Forms,
    *,
    examples: tuple[bool, bool, bool],
    places: int = 0,
) -> Map:
    """Makes a bilinear map whose form is chosen by the platform.

    Args:
        name: Of the map, in printed programs.
        plain: Forms for all platforms.
        on_cpu: Forms for CPUs.
        examples: Which of a, b and c have a first axis of examples, each of which is
            mapped alone. There `jax.vmap` needs no form of its own.
        places: Number of arrays of integers that the map is given beside a and b. They
            have a first axis of examples.

    Returns:
        The map. Its arguments may have any dtype that the plain form takes; it exists
        under `jit`, `vmap`, `grad`, `jvp`, `scan`, `checkpoint` and `shard_map`.
    """
    names = (name, f"{name}_in_first", f"{name}_in_second")
    primitives = tuple(map(Bilinear, names, plain, on_cpu))
    makers = {role[-1]: made for role, made in zip(_ROLES, primitives, strict=True)}
    for primitive, role in zip(primitives, _ROLES, strict=True):
        slopes = [functools.partial(_slope, primitive, at) for at in (0, 1)]
        ad.defjvp(primitive, *slopes, *[None] * places)
        ad.primitive_transposes[primitive] = functools.partial(_transpose, makers, role)
        *two, one = (examples["abc".index(letter)] for letter in role)
        batching.primitive_batchers[primitive] = functools.partial(
            _map, primitive, (*two, *[True] * places, one)
        )
        primitive.def_abstract_eval(_abstract)
        primitive.def_impl(functools.partial(_run_alone, primitive))
        lower(primitive, primitive.plain)
        lower(primitive, primitive.on_cpu, platform="cpu")

    def out(a, b, settings, *places):
        def of(*arrays):
            return plain.out(*arrays[:2], None, settings, *arrays[2:])

        like = jax.eval_shape(of, a, b, *places)
        return _bind(primitives[0], a, b, like, settings, *places)

    first, second = (functools.partial(_bind, made) for made in primitives[1:])
    return Map(out, first, second, primitives)


def lower(primitive: Primitive, form: Callable, platform: str | None = None) -> None:
    """Says what a primitive computes, on one platform or on all others."""

    def computed(*arrays, **parameters):
        return run(form, **parameters)(*arrays)

    lower_form = mlir.lower_fun(computed, multiple_results=False)

    def rule(context, *arrays, **parameters):
        # A form need not say which of its arrays vary over a mesh: all of them do.
        avals_in = [_unmarked(aval) for aval in context.avals_in]
        context = context.replace(avals_in=avals_in)
        return lower_form(context, *arrays, **parameters)

    mlir.register_lowering(primitive, rule, platform=platform)


def _unmarked(aval):
    """Returns the type of an array without the axes of a mesh that it varies over."""
    return ShapedArray(
        aval.shape, aval.dtype, weak_type=aval.weak_type, sharding=aval.sharding
    )


def run(form: Callable, *, like, settings, depth: int) -> Callable:
    """Returns a form as a function of its arrays, given a primitive's parameters.

    Args:
        form: One of `Forms`.
        like: The shape and dtype of the result.
        settings: What the map was called with.
        depth: Number of leading axes, of all arrays, that it is mapped over.
    """

    def function(one, two, *places):
        if 0 in (*one.shape, *two.shape, *like.shape):
            return jnp.zeros(like.shape, like.dtype)  # A sum of nothing
        return form(one, two, like, settings, *places)

    for _ in range(depth):
        function = jax.vmap(function)
    return function


def _bind(primitive, one, two, like, settings: Hashable, *places):
    arrays = _mesh.alike([jnp.asarray(x) for x in (one, two, *places)])
    return primitive.bind(*arrays, like=_struct(like), settings=settings, depth=0)


def _struct(x) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype)


def _abstract(one, two, *places, like, settings, depth):
    del two, places, settings
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


def _slope(primitive, at, tangent, *arrays, **parameters):
    """Binds a primitive with the tangent of one argument in its place."""
    arrays = (*arrays[:at], tangent, *arrays[at + 1 :])
    return primitive.bind(*arrays, **parameters)


def _transpose(makers, role, cotangent, *arrays, like, settings, depth):
    """Binds the primitive that makes the argument that is missing."""
    missing = [ad.is_undefined_primal(x) for x in arrays].index(True)
    found = [None] * len(arrays)
    if type(cotangent) is ad.Zero:
        return found
    known = dict(zip(role, (*arrays[:2], cotangent), strict=True))
    wanted = known.pop(role[missing]).aval
    order = next(r for r in _ROLES if r[-1] == role[missing])
    found[missing] = makers[role[missing]].bind(
        *(known[letter] for letter in order[:2]),
        *arrays[2:],
        like=jax.ShapeDtypeStruct(wanted.shape[depth:], wanted.dtype),
        settings=settings,
        depth=depth,
    )
    return found


def _map(primitive, examples, arrays, axes, *, like, settings, depth):
    """Maps over an axis: as more examples where that can be, or as a deeper map."""
    pairs = list(zip(arrays, axes, strict=True))
    size = next(x.shape[axis] for x, axis in pairs if axis is not None)

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
        moved = (in_front(*pair) for pair in pairs)
        deeper = primitive.bind(*moved, like=like, settings=settings, depth=depth + 1)
        return deeper, 0
    folded = (fold(*p, e) for p, e in zip(pairs, examples[:-1], strict=True))
    wide = jax.ShapeDtypeStruct((size * like.shape[0], *like.shape[1:]), like.dtype)
    out = primitive.bind(*folded, like=wide, settings=settings, depth=0)
    return out.reshape(size, *like.shape), 0
