"""Times what moves and gathers fields against PyTorch.

The lookup's peer is that of the published RAFT: one call of `grid_sample` a level, the
volume as a batch of small pictures. Forward splatting's adds the four corners by
`index_add_`; RoIAlign's is `grid_sample` at the same points, on a copy of the map for
each box: torchvision's own operator comes only in builds for CUDA.
"""

import functools

import numpy as np

from experiments.bench import runner

RADIUS, LEVELS, BOXES, BINS = 4, 4, 32, 7


def normal(*shape):
    """Gaussian numbers."""
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def first(*arrays):
    """Moves channels to second place."""
    return [np.ascontiguousarray(np.moveaxis(a, -1, 1)) for a in arrays]


def pyramid():
    """An all-pairs volume of 28x64 pixels and its coarser levels, and points."""
    levels = [normal(1, 28, 64, 28 >> level, 64 >> level) for level in range(LEVELS)]
    y, x = np.indices((28, 64), np.float32)
    return [*levels, np.stack([x, y], axis=-1)[None] + 2 * normal(1, 28, 64, 2)]


def our_lookup(call):
    """Prepares our lookup."""
    from jaxflow.ops import all_pairs

    def run(*arrays):
        return all_pairs.lookup(arrays[:-1], arrays[-1], radius=RADIUS)

    return getattr(runner, f"jax_{call}")(run, *pyramid())


def peer_lookup(call):
    """Prepares the peer's."""
    import torch

    side = torch.linspace(-RADIUS, RADIUS, 2 * RADIUS + 1)
    window = torch.stack(torch.meshgrid(side, side, indexing="ij"), dim=-1)

    def run(*arrays):
        *levels, points = arrays
        points = points.reshape(-1, 1, 1, 2)
        found = []
        for level, volume in enumerate(levels):
            height, width = volume.shape[-2:]
            at = points / 2**level + window[None]
            scale = torch.tensor([width - 1, height - 1])
            grid = 2 * at / scale - 1
            volume = volume.reshape(-1, 1, height, width)
            met = torch.nn.functional.grid_sample(volume, grid, align_corners=True)
            found.append(met.reshape(28, 64, -1))
        return torch.cat(found, dim=-1)

    return getattr(runner, f"torch_{call}")(run, *pyramid())


def our_upsample(call):
    """Prepares our convex up-sampling."""
    from jaxflow import ops

    arrays = normal(1, 56, 128, 2), normal(1, 56, 128, 576)
    return getattr(runner, f"jax_{call}")(ops.convex_upsample, *arrays)


def peer_upsample(call):
    """Prepares the peer's, as it was published."""
    import torch

    def run(flow, mask):
        batch, _, height, width = flow.shape
        weights = mask.view(batch, 1, 9, 8, 8, height, width).softmax(dim=2)
        near = torch.nn.functional.unfold(8 * flow, [3, 3], padding=1)
        near = near.view(batch, 2, 9, 1, 1, height, width)
        fine = (weights * near).sum(dim=2).permute(0, 1, 4, 2, 5, 3)
        return fine.reshape(batch, 2, 8 * height, 8 * width)

    arrays = first(normal(1, 56, 128, 2), normal(1, 56, 128, 576))
    return getattr(runner, f"torch_{call}")(run, *arrays)


def our_splat(call, *shape):
    """Prepares our forward splatting."""
    from jaxflow import ops

    def run(values, flow):
        return ops.forward_splat(values, flow)[0]

    arrays = normal(*shape), 3 * normal(*shape[:-1], 2)
    return getattr(runner, f"jax_{call}")(run, *arrays)


def peer_splat(call, *shape):
    """Prepares the peer's: values (B, H, W, C), in the layout that it likes best."""
    import torch

    _, height, width, channels = shape
    rows = torch.arange(height, dtype=torch.float32)[:, None]
    columns = torch.arange(width, dtype=torch.float32)

    def run(values, flow):
        x, y = columns + flow[..., 0], rows + flow[..., 1]
        left, top = x.floor(), y.floor()
        out = torch.zeros(height * width, channels)
        for i in (0, 1):
            for j in (0, 1):
                column, row = left + i, top + j
                weight = (1 - (x - column).abs()) * (1 - (y - row).abs())
                inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
                index = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
                part = (weight * inside)[..., None] * values
                out = out.index_add(
                    0, index.long().reshape(-1), part.reshape(-1, channels)
                )
        return out

    arrays = normal(*shape), 3 * normal(*shape[:-1], 2)
    return getattr(runner, f"torch_{call}")(run, *arrays)


def boxes():
    """Boxes on a map of 16x16 pixels, (K, 4)."""
    corners = np.random.default_rng(1).uniform(0, 10, (BOXES, 2))
    return np.concatenate([corners, corners + 5.5], axis=-1).astype(np.float32)


def our_roi(call):
    """Prepares our RoIAlign."""
    import jax.numpy as jnp

    from jaxflow import ops

    owners = jnp.zeros(BOXES, jnp.int32)

    def run(features):
        return ops.roi_align(
            features, boxes(), owners, size=(BINS, BINS), sampling_ratio=2
        )

    return getattr(runner, f"jax_{call}")(run, normal(1, 16, 16, 256))


def peer_roi(call):
    """Prepares the peer's."""
    import torch

    corners = torch.from_numpy(boxes())
    place = (torch.arange(2 * BINS) + 0.5) / (2 * BINS)

    def run(features):
        low, high = corners[:, None, :2], corners[:, None, 2:]
        at = low + (high - low) * place[None, :, None] - 0.5
        x = at[:, None, :, 0].expand(-1, 2 * BINS, -1)
        y = at[:, :, None, 1].expand(-1, -1, 2 * BINS)
        grid = torch.stack([x, y], dim=-1) * (2 / 15) - 1
        copies = features.expand(BOXES, -1, -1, -1)
        samples = torch.nn.functional.grid_sample(copies, grid, align_corners=True)
        return torch.nn.functional.avg_pool2d(samples, 2)

    return getattr(runner, f"torch_{call}")(run, *first(normal(1, 16, 16, 256)))


KINDS = {
    "lookup 28x64, 4 levels, radius 4": (our_lookup, peer_lookup, ()),
    "convex up-sampling 56x128": (our_upsample, peer_upsample, ()),
    "forward splat 112x256x32": (our_splat, peer_splat, (1, 112, 256, 32)),
    "forward splat 448x1024x3": (our_splat, peer_splat, (1, 448, 1024, 3)),
    "RoIAlign 16x16x256, 32 boxes": (our_roi, peer_roi, ()),
}
CASES = {
    f"{name} {what}": runner.Rivals(
        functools.partial(mine, call, *shape), functools.partial(other, call, *shape)
    )
    for name, (mine, other, shape) in KINDS.items()
    for what, call in (("forward", "call"), ("gradient", "gradient_call"))
}
