"""What all builders have in common: one folder in, one report, array_record out."""

import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any, Self

from jaxflow import _checks

try:
    import tensorflow_datasets as tfds
except Exception as error:
    raise _checks.cannot_import("TensorFlow Datasets", "data", error) from error

_SHOWN = 5


class TooShort(ValueError):
    """A file is whole and has too little in it."""


class FolderBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A data set that is made of the folder which its authors distribute.

    Attributes:
        folder: That `prepare` was given.
    """

    folder: pathlib.Path

    @classmethod
    def prepare(
        cls,
        folder: str | os.PathLike[str],
        data_dir: str | os.PathLike[str],
        *,
        config: str | None = None,
    ) -> Self:
        """Converts the folder that the authors distribute, unless that has been done.

        Args:
            folder: Of the data set, as it unpacks.
            data_dir: Where TFDS keeps what it prepares.
            config: One of `BUILDER_CONFIGS`; None for the first.

        Returns:
            The builder; ``builder.as_data_source("train")`` reads.

        Raises:
            ValueError: If `config` is not known, or the folder is not whole. One report
                says what is missing, damaged, too short, or there in excess.
        """
        names = [each.name for each in cls.BUILDER_CONFIGS]
        config = names[0] if config is None else config
        _checks.one_of("config", config, names)
        builder = cls(
            config=config, data_dir=os.fspath(data_dir), file_format="array_record"
        )
        builder.folder = pathlib.Path(folder)
        if not builder.data_path.exists():
            # Before TFDS makes folders of its own.
            builder.list_splits(builder.root(pathlib.Path(folder)))
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(
                    manual_dir=os.fspath(folder)
                )
            )
        return builder

    def root(self, folder: pathlib.Path) -> pathlib.Path:
        """Returns the folder that the layout begins in: the one given, or one in it."""
        return folder

    def list_splits(self, root: pathlib.Path) -> dict[str, list]:
        """Lists what the elements of all splits are made of.

        Raises:
            ValueError: If files are missing, too few or too many; all are reported.
        """
        raise NotImplementedError

    def _example(self, root: pathlib.Path, item: Any) -> dict:
        """Reads one element, with its ``id``.

        Raises:
            TooShort: If it is no whole element.
            ValueError: If it is damaged.
        """
        raise NotImplementedError

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        root = self.root(pathlib.Path(os.fspath(dl_manager.manual_dir)))
        splits = self.list_splits(root)
        damaged: list[str] = []
        names = list(splits)
        return {
            name: self._generate_examples(
                root,
                items,
                damaged,
                [item for later in names[place + 1 :] for item in splits[later]],
            )
            for place, (name, items) in enumerate(splits.items())
        }

    def _generate_examples(
        self,
        root: pathlib.Path,
        items: list,
        damaged: list[str],
        following: list,
    ) -> Iterator[tuple[str, dict]]:
        """Reads what is listed, and reports after the last split what is damaged."""
        read = 0
        for example in self._examples(root, items, damaged):
            read += 1
            yield example["id"], example
        if not read:  # TFDS ends at an empty split, before it reads the others.
            for _ in self._examples(root, following, damaged):
                pass
        if not (read and following):
            raise_report(root, damaged)

    def _examples(self, root, items, damaged: list[str]) -> Iterator[dict]:
        """Reads what can be read of some items, and adds what cannot to `damaged`."""
        for item in items:
            try:
                yield self._example(root, item)
            except TooShort as error:
                damaged.append(f"too short: {error}")
            except (ValueError, OSError) as error:
                damaged.append(f"damaged: {error}")


def configs(names: Iterable[str]) -> list[tfds.core.BuilderConfig]:
    """Makes the configs of a builder of their names."""
    return [tfds.core.BuilderConfig(name=name) for name in names]


def raise_report(root: pathlib.Path, faults: list[str]) -> None:
    """Raises all faults of a tree as one ValueError; returns if there are none."""
    if not faults:
        return
    faults = list(dict.fromkeys(faults))
    kinds = dict.fromkeys(fault.partition(":")[0] for fault in faults)
    parts = []
    for kind in kinds:
        found = [f.partition(": ")[2] for f in faults if f.startswith(f"{kind}:")]
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        parts.append(f"{len(found)} {kind} ({', '.join(found[:_SHOWN])}{more})")
    raise ValueError(f"{root}: is not whole: {'; '.join(parts)}")
