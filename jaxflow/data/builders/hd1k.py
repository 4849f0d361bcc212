"""HD1K as a TFDS data set.

Kondermann et al., "The HCI Benchmark Suite: Stereo and Flow Ground Truth with
Uncertainties for Urban Autonomous Driving" (2016): 35 sequences of 1080x2560. The
authors publish flow for their training sequences, which are the split "train"; see
http://hci-benchmark.iwr.uni-heidelberg.de:

    hd1k_input/image_2/000000_0000.png ...
    hd1k_flow_gt/flow_occ/000000_0000.png ...

The last frame of a sequence has a flow file and no partner, so it makes no pair.
"""

import pathlib

from jaxflow.data import folders
from jaxflow.data.builders import base, common


class HD1K(base.FlowBuilder):
    """Builder of the one config "all"; ``valid`` is where the file has flow."""

    LAYOUTS = {"all": "hd1k"}  # noqa: RUF012
    BUILDER_CONFIGS = common.configs(LAYOUTS)
    HOMEPAGE = "http://hci-benchmark.iwr.uni-heidelberg.de"
    CITATION = "Kondermann et al., The HCI Benchmark Suite, CVPR Workshops 2016"
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Unpack hd1k_input.zip and hd1k_flow_gt.zip in one folder, and name it."
    )

    def faults(self, root: pathlib.Path, pairs: list[folders.Pair]) -> list[str]:
        """Reports files that are not numbered as the rest, and gaps in sequences."""
        numbers: dict[str, dict[str, set[int]]] = {}
        found = []
        for name in ("hd1k_input/image_2", "hd1k_flow_gt/flow_occ"):
            for path in sorted((root / name).glob("[!.]*")):
                sequence, _, index = path.stem.partition("_")
                if not (sequence.isdecimal() and index.isdecimal()):
                    found.append(f"extra: {path.relative_to(root)}")
                    continue
                numbers.setdefault(sequence, {}).setdefault(name, set()).add(int(index))
        for sequence, parts in numbers.items():
            every = set.union(*parts.values())
            for name in ("hd1k_input/image_2", "hd1k_flow_gt/flow_occ"):
                lacking = set(range(min(every), max(every) + 1)) - parts.get(
                    name, set()
                )
                # Flow of the last frame, which has no partner, may be left out.
                if "flow" in name:
                    lacking.discard(max(every))
                found += [
                    f"missing: {name}/{sequence}_{n:04d}.png" for n in sorted(lacking)
                ]
            if len(every) < 2:
                found.append(f"too short: sequence {sequence}, 1 frame")
        return found
