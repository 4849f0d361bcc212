"""How others name the weights of residual networks, and where they publish them.

A row of a key table is (pattern of a foreign key, path of the weight in our model);
the path is None for what is no weight. A model calls its lateral connections
`laterals.0` to `laterals.3`.
"""

from collections.abc import Sequence

from jaxflow import spec

_PYSLOWFAST = "https://github.com/facebookresearch/SlowFast (MODEL_ZOO.md)"
_PYTORCHVIDEO = "https://github.com/facebookresearch/pytorchvideo (model zoo)"
_SERVERS = {
    _PYSLOWFAST: "https://dl.fbaipublicfiles.com/pyslowfast/model_zoo",
    _PYTORCHVIDEO: "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo",
}
_TORCH_NORM = "weight|bias|running_mean|running_var"
_CAFFE2_NORM = {
    "s": "weight",
    "b": "bias",
    "rm": "running_mean",
    "riv": "running_var",
}


def weights(
    file: str,
    dialect: str,
    num_params: int,
    result: float,
    *,
    data: str | None = None,
    metric: str = "kinetics400_top1",
) -> spec.Weights:
    """Describes weights in a model zoo: PySlowFast's of Caffe2, else pytorchvideo's.

    Args:
        file: Name of the file.
        dialect: Which key table it is of.
        num_params: Number of parameters.
        result: What the zoo says that they reach.
        data: Folder of the file on the server; None is the one for Kinetics.
        metric: What `result` is.
    """
    source = _PYSLOWFAST if dialect == "caffe2" else _PYTORCHVIDEO
    data = data or ("kinetics400" if dialect == "caffe2" else "kinetics")
    return spec.Weights(
        file=file,
        source=source,
        licence="Apache-2.0",
        dialect=dialect,
        url=f"{_SERVERS[source]}/{data}/{file}",
        num_params=num_params,
        metrics={metric: result},
        citation="Feichtenhofer et al., SlowFast, ICCV 2019",
    )


def pyslowfast_keys(*pathways: str) -> tuple[tuple[str, str | None], ...]:
    """Returns the key table of PySlowFast's `.pyth` files, for pathways in order."""
    rows = [(r"head\.projection\.(weight|bias)", r"head.projection.\1")]
    for number, name in enumerate(pathways):
        block = rf"s(\d)\.pathway{number}_res(\d+)"
        ours = rf"{name}.res\1.blocks.\2"
        attention = rf"s(\d)\.pathway{number}_nonlocal(\d+)"
        rows += [
            (rf"s1\.pathway{number}_stem\.conv\.weight", f"{name}.stem.conv.weight"),
            (
                rf"s1\.pathway{number}_stem\.bn\.({_TORCH_NORM})",
                rf"{name}.stem.norm.\1",
            ),
            (rf"{block}\.branch1\.weight", rf"{ours}.shortcut.conv.weight"),
            (rf"{block}\.branch1_bn\.({_TORCH_NORM})", rf"{ours}.shortcut.norm.\3"),
            (rf"{block}\.branch2\.([abc])\.weight", rf"{ours}.\3.conv.weight"),
            (rf"{block}\.branch2\.([abc])_bn\.({_TORCH_NORM})", rf"{ours}.\3.norm.\4"),
            (
                rf"{attention}\.conv_(theta|phi|g|out)\.(weight|bias)",
                rf"{name}.res\1.non_local\2.\3.\4",
            ),
            (
                rf"{attention}\.bn\.({_TORCH_NORM})",
                rf"{name}.res\1.non_local\2.norm.\3",
            ),
        ]
    for index in range(4):
        rows += [
            (rf"s{index + 1}_fuse\.conv_f2s\.weight", f"laterals.{index}.conv.weight"),
            (rf"s{index + 1}_fuse\.bn\.({_TORCH_NORM})", rf"laterals.{index}.norm.\1"),
        ]
    return tuple(rows)


def pytorchvideo_keys(
    *pathways: str, stages: Sequence[int] = (1, 2, 3, 4), projection: int
) -> tuple[tuple[str, str | None], ...]:
    """Returns the key table of pytorchvideo's `.pyth` files.

    Args:
        *pathways: Our names of the pathways in order; one name is a single pathway,
            which pytorchvideo numbers differently.
        stages: Numbers of the foreign blocks that are res2 to res5.
        projection: Number of the foreign block that is the head.
    """
    head = rf"(?:blocks\.{projection}|detection_head)\.proj\.(weight|bias)"
    rows = [(head, r"head.projection.\1")]
    for number, name in enumerate(pathways):
        inner = rf"multipathway_blocks\.{number}\." if len(pathways) > 1 else ""
        stem = rf"blocks\.0\.{inner}"
        rows += [
            (rf"{stem}conv\.weight", f"{name}.stem.conv.weight"),
            (rf"{stem}norm\.({_TORCH_NORM})", rf"{name}.stem.norm.\1"),
        ]
        for index, foreign in enumerate(stages):
            block = rf"blocks\.{foreign}\.{inner}res_blocks\.(\d+)"
            ours = rf"{name}.res{index + 2}.blocks.\1"
            rows += [
                (rf"{block}\.branch1_conv\.weight", rf"{ours}.shortcut.conv.weight"),
                (
                    rf"{block}\.branch1_norm\.({_TORCH_NORM})",
                    rf"{ours}.shortcut.norm.\2",
                ),
                (rf"{block}\.branch2\.conv_([abc])\.weight", rf"{ours}.\2.conv.weight"),
                (
                    rf"{block}\.branch2\.norm_([abc])\.({_TORCH_NORM})",
                    rf"{ours}.\2.norm.\3",
                ),
            ]
    for index in range(4):
        fusion = rf"blocks\.{index}\.multipathway_fusion"
        rows += [
            (
                rf"{fusion}\.conv_fast_to_slow\.weight",
                f"laterals.{index}.conv.weight",
            ),
            (rf"{fusion}\.norm\.({_TORCH_NORM})", rf"laterals.{index}.norm.\1"),
        ]
    # PySlowFast saves pytorchvideo's models with one prefix more, and so does
    # pytorchvideo all but the head of a detector.
    return tuple((rf"(?:model\.)?{pattern}", path) for pattern, path in rows)


def image_keys(
    stem: str, stages: Sequence[str], parts: Sequence[str]
) -> tuple[tuple[str, str | None], ...]:
    """Returns the key table of torchvision's 2-D ResNets.

    Args:
        stem: Our path of the first convolution.
        stages: Our paths of the four stages.
        parts: Our names of the convolutions of a block, in order.
    """
    rows = [
        (r"conv1\.weight", f"{stem}.conv.weight"),
        (rf"bn1\.({_TORCH_NORM})", rf"{stem}.norm.\1"),
        (r"fc\.(weight|bias)", r"head.projection.\1"),
    ]
    for index, stage in enumerate(stages):
        block, ours = rf"layer{index + 1}\.(\d+)", rf"{stage}.blocks.\1"
        rows += [
            (rf"{block}\.downsample\.0\.weight", rf"{ours}.shortcut.conv.weight"),
            (rf"{block}\.downsample\.1\.({_TORCH_NORM})", rf"{ours}.shortcut.norm.\2"),
        ]
        for number, part in enumerate(parts, start=1):
            conv, norm = rf"{block}\.conv{number}", rf"{block}\.bn{number}"
            rows += [
                (rf"{conv}\.weight", rf"{ours}.{part}.conv.weight"),
                (rf"{norm}\.({_TORCH_NORM})", rf"{ours}.{part}.norm.\2"),
            ]
    return tuple(rows)


def caffe2_keys(*pathways: str) -> tuple[tuple[str, str | None], ...]:
    """Returns the key table of the Caffe2 `.pkl` files, for pathways in order."""
    leaves = {"w": "weight", "b": "bias"}
    rows: list[tuple[str, str | None]] = [
        (rf"pred_{short}", f"head.projection.{leaf}") for short, leaf in leaves.items()
    ]

    def convolution(foreign, ours):
        rows.append((rf"{foreign}_w", f"{ours}.conv.weight"))
        normalisation(rf"{foreign}_bn", f"{ours}.norm")

    def normalisation(foreign, ours):
        rows.extend(
            (rf"{foreign}_{short}", f"{ours}.{leaf}")
            for short, leaf in _CAFFE2_NORM.items()
        )

    for prefix, name in zip(("", "t_"), pathways, strict=False):
        rows.append((rf"{prefix}conv1_w", f"{name}.stem.conv.weight"))
        normalisation(rf"{prefix}res_conv1_bn", f"{name}.stem.norm")
        block, ours = rf"{prefix}res(\d)_(\d+)", rf"{name}.res\1.blocks.\2"
        convolution(rf"{block}_branch1", rf"{ours}.shortcut")
        convolution(rf"{block}_branch2([abc])", rf"{ours}.\3")
    attention, ours = r"nonlocal_conv(\d)_(\d+)", rf"{pathways[0]}.res\1.non_local\2"
    rows += [
        (rf"{attention}_(theta|phi|g|out)_{short}", rf"{ours}.\3.{leaf}")
        for short, leaf in leaves.items()
    ]
    normalisation(rf"{attention}_bn", f"{ours}.norm")
    convolution("t_pool1_subsample", "laterals.0")
    for index in (1, 2, 3):
        foreign = rf"t_res{index + 1}_\d+_branch2c_bn_subsample"
        convolution(foreign, f"laterals.{index}")
    # What the solver leaves behind.
    rows.append((r".*(?:momentum|model_iter|^lr$|_lr).*|lr", None))
    return tuple(rows)
