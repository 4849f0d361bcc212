"""Where a network of two streams has its flow from, as ``jaxflow classify`` is told."""

import argparse
import os
from typing import Any

from jaxflow.cli import estimators

# What an estimator's options are called here.
_NAMES = {
    "--weights": "--flow-weights",
    "--model": "--two-stream",
    "--option": "--flow-option",
}


def add_options(add) -> None:
    """Adds the options of flow."""
    helps = {
        "flow": "of a network that sees flow: an estimator of it, see jaxflow models "
        "--task flow, or a folder of its pictures (flow_x_00001.jpg and "
        "flow_y_00001.jpg, or folders u and v)",
        "weights": "weights of the estimator: a file, or a published name; may be "
        "repeated",
        "stream": "weights of the stream of flow, where --weights are those of the "
        "stream of frames alone",
        "option": "option of the estimator, such as iterations=5; may be repeated",
        "cache": "keep the flow of whole frames there, and take it from there the next "
        "time; without, it is estimated in the network's program, of its crops",
    }
    many = {"action": "append", "default": []}
    add("--two-stream", metavar="FLOW", help=helps["flow"])
    add("--stream-weights", metavar="FILE", help=helps["stream"])
    add("--flow-weights", metavar="FILE", help=helps["weights"], **many)
    add("--flow-option", metavar="NAME=VALUE", help=helps["option"], **many)
    add("--flow-cache", metavar="DIR", help=helps["cache"])


def sees_flow(model: Any) -> bool:
    """Tells whether a network's clips have channels of flow."""
    return getattr(model.config, "in_features", 3) in (2, 5)


def is_flow(path: str) -> bool:
    """Tells whether a clip is a folder of pictures of flow."""
    from jaxflow.data import flow_pictures

    return os.path.isdir(path) and flow_pictures.is_flow_folder(path)


def with_flow(
    model: Any, source: Any, args: argparse.Namespace
) -> tuple[Any, str | None]:
    """Returns a network that sees what the options say, and its pictures of flow.

    Args:
        model: The network of `--model`.
        source: The clip, as `jaxflow.classify_video` takes it.
        args: The options.

    Returns:
        The network as it is, with the folder of its flow; or with an estimator in
        front of it, and None.

    Raises:
        ValueError: If the options do not fit the network or each other.
        OSError: If the cache cannot be written to.
    """
    _check(model, source, args)
    if args.two_stream is None:
        return model, None
    if os.path.isdir(args.two_stream):
        from jaxflow.data import flow_pictures

        flow_pictures.list_flow_pictures(args.two_stream)
        return model, args.two_stream

    from jaxflow import flow_cache, two_stream

    try:
        estimator, options = estimators.load(
            args.two_stream, args.flow_weights or None, args.flow_option
        )
    except ValueError as error:
        message = str(error)
        for theirs, ours in _NAMES.items():
            message = message.replace(theirs, ours)
        raise ValueError(message) from None
    if args.flow_cache is None:
        from jaxflow import estimate

        estimator = estimate.named(estimator)
        return two_stream.WithFlow(model, estimator, options=options), None
    side = args.crop or model.config.crop_size
    place = flow_cache.cached_flow(
        estimator,
        source,
        args.flow_cache,
        options=options,
        short_side=round(side * 8 / 7) if args.views[1] == 1 else side,
        precision=args.precision,
        batch_size=args.batch_size,
    )
    return model, str(place)


def load_streams(name: str, rgb: str, flow: str, overrides: dict[str, Any]) -> Any:
    """Returns a network of two streams, filled from a file of each.

    Args:
        name: Name of the network.
        rgb: Weights of the stream of frames: a file or a published name.
        flow: Those of the stream of flow.
        overrides: Fields of its config.
    """
    from jaxflow import models, two_stream

    model = models.create_model(name, **overrides)
    streams = (getattr(model, stream, None) for stream in ("rgb", "flow"))
    if any(stream is None for stream in streams):
        raise ValueError(
            f"--stream-weights: {name} has no two streams; --weights alone is enough"
        )
    return two_stream.load_streams(model, rgb, flow)


def _check(model: Any, source: Any, args: argparse.Namespace) -> None:
    """Raises ValueError if the options do not fit the network or each other."""
    own = isinstance(source, str) and is_flow(source)
    only_flow = getattr(model.config, "in_features", 3) == 2
    if args.two_stream is None:
        if sees_flow(model) and not (only_flow and own):
            raise ValueError(
                f"--two-stream: {args.model} sees flow: name an estimator of it, such "
                "as tvl1, or a folder of its pictures"
            )
        for option in ("flow_weights", "flow_option", "flow_cache"):
            if getattr(args, option):
                name = option.replace("_", "-")
                raise ValueError(f"--{name}: is for --two-stream, which is not given")
        return
    if not sees_flow(model):
        raise ValueError(
            f"--two-stream: {args.model} sees no flow; two_stream_r50 and "
            "i3d_inception_two_stream are networks that do"
        )
    if own:
        raise ValueError(
            f"--two-stream: {source} is flow, which is estimated from frames: give "
            "those"
        )
    if os.path.isdir(args.two_stream):
        for option in ("flow_weights", "flow_option", "flow_cache"):
            if getattr(args, option):
                name = option.replace("_", "-")
                raise ValueError(
                    f"--{name}: is for an estimator; {args.two_stream} is a folder"
                )
