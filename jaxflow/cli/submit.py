"""``jaxflow submit``: results for the servers of KITTI and Sintel."""

import argparse
import functools

from jaxflow.cli import common, estimators, evaluate, paths
from jaxflow.data import submissions

_NEXT = {
    "sintel": "pack it: bundler {0}/clean {0}/final result.lzma (bundler comes with "
    "MPI-Sintel-complete)",
    "kitti2012": "pack it: (cd {0} && zip ../result.zip *.png)",
    "kitti2015": "pack it: (cd {0} && zip -r ../result.zip flow)",
}


def add_command(commands) -> None:
    """Adds the command and its options to the parser."""
    about = "Write the flow of a benchmark's testing part, as its server takes it"
    example = (
        "jaxflow submit kitti2015 --model raft_large/things --data KITTI -o result"
    )
    add = common.add_command(commands, "submit", run, about, example).add_argument
    names = sorted(submissions.BENCHMARKS)
    helps = {
        "benchmark": "whose testing part it is",
        "model": "a network, published weights, or a classical method",
        "data": "folder of the data set, as it unpacks",
        "output": "folder of the results; it must be new or empty",
    }
    add("benchmark", choices=names, help=helps["benchmark"])
    add("--model", required=True, metavar="NAME", help=helps["model"])
    estimators.add_options(add)
    add("--data", required=True, metavar="DIR", help=helps["data"])
    add("-o", "--output", required=True, metavar="DIR", help=helps["output"])


def run(args: argparse.Namespace) -> None:
    """Writes a flow for every pair."""
    pairs = submissions.list_test_pairs(args.benchmark, args.data)
    paths.make_folder("--output", args.output)
    paths.check_new("--output", args.output)
    model, options = evaluate.load_model(args.model, args)
    keywords = {"options": options, **estimators.keywords(args)}
    estimator = functools.partial(evaluate.estimate_pair, model, keywords)
    bar = common.progress(pairs, "pair", total=len(pairs), quiet=args.quiet)
    submissions.write_submission(bar, args.output, estimator)
    common.wrote(args, args.output)
    if not args.quiet:
        print(_NEXT[args.benchmark].format(args.output))
