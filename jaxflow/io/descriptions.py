"""The JSON beside the arrays of a checkpoint: what they are, and their checksums."""

import asyncio
import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_args, future

from jaxflow.io import files, folders

_MARK = "_CHECKPOINT_METADATA"


class Damage(ValueError):
    """What was read is not what was written."""


def signed(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a description as plain JSON values, with a checksum of itself.

    Args:
        meta: JSON values, scalars of a device, and functions that return a number.
    """
    plain = json.loads(json.dumps(jax.device_get(meta), default=_number))
    return plain | {"signature": _signature(plain)}


def _number(value: Any) -> int:
    found: Any = value() if callable(value) else value
    return int(found)


def _signature(meta: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in meta.items() if name != "signature"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def read(folder: files.Path) -> dict:
    """Reads what describes one checkpoint of this library: {} if another wrote it.

    Args:
        folder: One checkpoint, or one step of a run.

    Raises:
        Damage: If it is absent, torn, or not what was written.
        OSError: If the storage fails.
    """
    path = folders.folder(folder)
    step = (path / "state").is_dir()
    place = path / "meta" / "metadata" if step else path / _MARK
    if not place.exists():
        raise Damage(f"{place.relative_to(path)} is missing")
    try:
        meta = json.loads(place.read_text(encoding="utf-8"))
        meta = meta if step else meta.get("custom_metadata") or {}
        known = "sha256" in meta or "checksums" in meta
        if "signature" in meta and meta["signature"] != _signature(meta):
            raise ValueError("its contents do not match their checksum")
        if step and not (known and "leaves" in meta):
            raise ValueError("the checksums are missing")
    except (ValueError, TypeError, AttributeError) as error:
        raise Damage(f"{place.relative_to(path)}: {error}") from None
    return meta if known else {}


class DescriptionHandler(ocp.JsonCheckpointHandler):
    """Writes the JSON beside the arrays; checksums may still be on their way."""

    async def async_save(
        self, directory: Any, item: Any = None, args: Any = None
    ) -> list[future.Future] | None:
        del item

        async def write() -> None:
            if jax.process_index() == 0:
                text = json.dumps(await asyncio.to_thread(signed, args.item))
                (directory / "metadata").write_text(text)

        name = "jaxflow_description"
        return [future.CommitFutureAwaitingContractedSignals(write(), name=name)]


@checkpoint_args.register_with_handler(
    DescriptionHandler, for_save=True, for_restore=True
)
@dataclasses.dataclass
class Description(ocp.args.CheckpointArgs):
    """What `DescriptionHandler` writes.

    Attributes:
        item: As `signed` takes it; it is completed in another thread.
    """

    item: Mapping[str, Any]
