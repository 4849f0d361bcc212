"""Tests for jaxflow.data.augment_recipes."""

from jaxflow.data import augment_recipes


def test_colours_of_sparse_recipes_are_never_asymmetric():
    for name, recipe in augment_recipes.RECIPES.items():
        sparse = "kitti" in name or "hd1k" in name
        assert (recipe.lookup == "sparse") == sparse
        if sparse:
            assert recipe.colour.asymmetric == recipe.geometry.stretch == 0
            assert recipe.geometry.flip_vertical == 0
        elif name != "flownet":
            assert recipe.colour.asymmetric == 0.2
