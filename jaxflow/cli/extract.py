"""``jaxflow extract``: flow or features of many videos, by Apache Beam."""

import argparse
import contextlib
import functools
import importlib
import json
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxflow import _checks, extract
from jaxflow.cli import classify, common, estimators, flow, paths
from jaxflow.io import folders

_SHOWN = 3
_THREADS = "NPROC"


def add_command(commands) -> None:
    """Adds the command and its options to the parser."""
    about = "Compute the flow or the features of many videos; go on if it was stopped"
    example = (
        "jaxflow extract flow --input 'videos/**/*.mp4' --output flows --workers 2, "
        "or on a cluster: ... --beam --runner FlinkRunner --flink_master HOST:8081"
    )
    add = common.add_command(commands, "extract", run, about, example).add_argument
    helps = {
        "task": "flow between the frames of each video, or features: what a layer of a "
        "recognition network puts out",
        "input": "pattern of videos, or of folders of pictures, in quotes; ** is any "
        "number of folders",
        "output": "folder of the shards, here or at gs://bucket/folder; a run that was "
        "stopped goes on in it",
        "model": "of flow: see jaxflow flow (default: "
        f"{flow.DEFAULT_MODEL}); of features: see jaxflow classify",
        "layer": "of features: the layer, such as slow.res5",
        "views": "of features: views to take, CLIPSxCROPS of each video (default: 1x1)",
        "bound": "of flow: store it in 8 bits, clipped to so many pixels; 20 is usual "
        "for two-stream networks (default: float32)",
        "shard_size": "videos of a shard, the most that is lost when a run is stopped "
        "(default: %(default)s)",
        "workers": "processes on this machine (default: %(default)s)",
        "batch": "pairs or views that run together (default: %(default)s)",
        "beam": "all words behind it are options of Apache Beam: the runner, its own",
    }
    add("task", choices=["flow", "features"], help=helps["task"])
    add("--input", required=True, metavar="GLOB", help=helps["input"])
    add("-o", "--output", required=True, metavar="DIR", help=helps["output"])
    add("--model", metavar="NAME", help=helps["model"])
    estimators.add_options(add)
    add("--layer", metavar="LAYER", help=helps["layer"])
    add("--views", type=classify.views, metavar="CxS", help=helps["views"])
    add("--bound", type=common.positive, metavar="PX", help=helps["bound"])
    count = {"type": common.whole, "metavar": "N"}
    add("--shard-size", default=16, help=helps["shard_size"], **count)
    add("--workers", default=1, help=helps["workers"], **count)
    add("--batch-size", default=4, help=helps["batch"], **count)
    common.add_json(add)
    rest = {"nargs": argparse.REMAINDER, "default": [], "metavar": "FLAGS"}
    add("--beam", help=helps["beam"], **rest)


def run(args: argparse.Namespace) -> None:
    """Computes the shards that are not there, and says which videos are damaged."""
    videos = extract.find_videos(args.input)
    settings = _settings(args)
    compute_of(json.dumps(settings))  # What cannot be is said before any work.
    beam = _import_beam()
    if not folders.is_remote(args.output):
        paths.make_folder("--output", args.output)
    plan = extract.make_plan(
        args.output, videos, settings=settings, shard_size=args.shard_size
    )
    left = plan.left()
    if not args.quiet and len(left) < len(plan.shards):
        done = len(plan.shards) - len(left)
        print(
            f"goes on: {done} of {len(plan.shards)} shards are there", file=sys.stderr
        )
    if left:
        with _cores_shared(args.workers):
            _run_pipeline(beam, plan, left, _flags(args))
    report = extract.write_report(plan)
    if args.json:
        common.print_json(report)
        return
    damaged = report["damaged"]
    if not args.quiet:
        print(f"{report['records']} of {report['videos']} videos are in {args.output}")
    for path, reason in list(damaged.items())[:_SHOWN]:
        print(f"damaged: {reason if path in reason else f'{path}: {reason}'}")
    if len(damaged) > _SHOWN:
        print(f"and {len(damaged) - _SHOWN} more: see {extract.REPORT} there")


def work(shard: str, folder: str) -> str:
    """Computes a shard of a folder: what a worker of Beam does."""
    # A worker that is a process of its own logs each step; warnings are enough.
    logging.getLogger("apache_beam").setLevel(logging.WARNING)
    plan = extract.load_plan(folder)
    extract.write_shard(plan, shard, compute_of(json.dumps(plan.settings)))
    return shard


@functools.cache
def compute_of(text: str) -> extract.Compute:
    """Returns what is computed of a video; a process loads a network once.

    Args:
        text: The settings, as JSON.
    """
    settings = json.loads(text)
    find = _compute_flow if settings["task"] == "flow" else _compute_features
    return find(settings)


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    """Returns what decides the results, and nothing else."""
    flow_only = {"--bound": args.bound, "--tile": args.tile}
    features_only = {"--layer": args.layer, "--views": args.views}
    other = features_only if args.task == "flow" else flow_only
    for option, value in other.items():
        if value is not None:
            raise ValueError(f"{option}: is not an option of {args.task}")
    if args.task == "features" and not (args.model and args.layer):
        raise ValueError("--model and --layer: name both, for features")
    weights = args.weights and [
        os.path.abspath(word) if os.path.exists(word) else word for word in args.weights
    ]
    return {
        "task": args.task,
        "model": args.model or (None if args.weights else flow.DEFAULT_MODEL),
        "weights": weights,
        "option": args.option,
        "precision": args.precision,
        "batch_size": args.batch_size,
        "tile": args.tile,
        "bound": args.bound,
        "layer": args.layer,
        "views": list(args.views or (1, 1)),
    }


def _compute_flow(settings: dict[str, Any]) -> extract.Compute:
    """Returns a function from a video to its flow, (T - 1, H, W, 2)."""
    from jaxflow import estimate, io, viz

    known = argparse.Namespace(**settings)
    model, options = estimators.load(known.model, known.weights, known.option)
    keywords = {"options": options, **estimators.keywords(known)}

    def compute(path: str) -> dict[str, np.ndarray]:
        pictures = (common.uint8_or_float(frame) for frame in io.read_frames(path))
        stream = estimate.stream_flow(
            model, pictures, batch_size=known.batch_size, **keywords
        )
        flows = list(stream)
        if not flows:
            raise ValueError(f"{path}: holds fewer than two frames")
        if known.bound is None:
            return {"flow": np.stack(flows)}
        coded = [viz.quantize_flow(flow, bound=known.bound) for flow in flows]
        return {"flow": np.stack(coded), "bound": np.array(known.bound, np.float32)}

    return compute


def _compute_features(settings: dict[str, Any]) -> extract.Compute:
    """Returns a function from a video to what a layer puts out, (views, ...)."""
    from jaxflow import classify as recognition

    known = argparse.Namespace(**settings)
    if known.weights and len(known.weights) > 1:
        raise ValueError("--weights: give one file")
    source = argparse.Namespace(
        model=known.model,
        weights=known.weights[0] if known.weights else None,
        option=known.option,
    )
    model = classify.load_recogniser(source)
    recognition.check_layer(model, known.layer)
    clips, crops = known.views

    def compute(path: str) -> dict[str, np.ndarray]:
        views = recognition.sample_views(model, path, clips=clips, crops=crops)
        features = recognition.view_features(
            model,
            views,
            known.layer,
            batch_size=known.batch_size,
            precision=known.precision,
        )
        return {"features": features}

    return compute


def _import_beam():
    """Imports Apache Beam, without its warnings of clouds that are not installed."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        return (
            importlib.import_module("apache_beam"),
            importlib.import_module("apache_beam.options.pipeline_options"),
        )
    except Exception as error:
        raise _checks.cannot_import("Apache Beam", "beam", error) from error
    finally:
        logging.disable(before)


def _flags(args: argparse.Namespace) -> list[str]:
    """Returns the options of Beam: the local runner, unless they name another."""
    named = any(word.partition("=")[0] == "--runner" for word in args.beam)
    if named:
        if args.workers > 1:
            raise ValueError("--workers: is of this machine; the runner has its own")
        return args.beam
    local = ["--runner=FnApiRunner", f"--direct_num_workers={args.workers}"]
    if args.workers > 1:
        local.append("--direct_running_mode=multi_processing")
    return [*local, *args.beam]


@contextlib.contextmanager
def _cores_shared(workers: int) -> Iterator[None]:
    """Gives processes that are started here their share of the cores, in threads.

    XLA reads it when a process begins, and otherwise takes all cores in each: workers
    would wait for each other. What the caller has set counts.
    """
    before = os.environ.get(_THREADS)
    if workers > 1 and before is None:
        here = getattr(os, "sched_getaffinity", None)
        cores = len(here(0)) if here else os.cpu_count() or 1
        os.environ[_THREADS] = str(max(1, cores // workers))
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_THREADS, None)


def _run_pipeline(
    beam, plan: extract.Plan, shards: list[str], flags: list[str]
) -> None:
    """Computes shards by Beam, each on its own, wherever its workers are."""
    module, pipeline_options = beam
    options = pipeline_options.PipelineOptions(flags)
    with module.Pipeline(options=options) as pipeline:
        done = pipeline | "Shards" >> module.Create(shards)
        done = done | "Spread" >> module.Reshuffle()
        _ = done | "Compute" >> module.Map(work, folder=plan.folder)
