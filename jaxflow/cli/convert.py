"""``jaxflow convert``: a published checkpoint as safetensors."""

import argparse

from jaxflow.cli import common, estimators, paths


def add_command(commands) -> None:
    """Adds the command and its options to the parser."""
    about = "Turn a published checkpoint into safetensors, without running its code"
    example = "jaxflow convert pwc_net.pth.tar --model pwcnet -o pwcnet.safetensors"
    add = common.add_command(commands, "convert", run, about, example).add_argument
    pieces = (
        "the checkpoint; several files, a pattern or a folder if its authors cut it "
        "into pieces; or a published name"
    )
    network = "the network that it is of; see jaxflow models"
    output = "the file to write, which ends in .safetensors"
    add("files", nargs="+", metavar="FILE", help=pieces)
    add("--model", required=True, metavar="NAME", help=network)
    add("-o", "--output", required=True, metavar="FILE", help=output)
    option = "field of the network's config, such as num_classes=101; may be repeated"
    many = {"action": "append", "default": []}
    add("--option", metavar="NAME=VALUE", help=option, **many)


def run(args: argparse.Namespace) -> None:
    """Writes a published checkpoint as safetensors."""
    paths.check_suffix("--output", args.output, (".safetensors",))
    paths.check_file("--output", args.output)
    paths.check_targets([("--output", args.output)], args.files)

    from jaxflow import convert

    overrides = estimators.overrides(args.model, args.option)
    model = estimators.network(args.model, args.files, overrides)
    convert.save_weights(model, args.output)
    common.wrote(args, args.output)
