"""A small network with random weights, and `generate` with few steps."""

import dataclasses

import numpy as np

import jaxflow
from jaxflow import convert, generation
from jaxflow.models.generation import fdm

CONFIG = dataclasses.replace(
    fdm.TINY, channels=1, num_classes=3, num_frames=4, predicts="velocity"
)
QUICK = generation.Settings(steps=3)


def noisy_weights(model):
    numbers = np.random.default_rng(0)
    for slot in convert.weight_slots(model).values():
        added = 0.05 * numbers.standard_normal(slot.variable.shape)
        slot.variable[...] = slot.variable[...] + np.float32(added)
    model.eval()
    return model


def make(model, *args, **options):
    return jaxflow.generate(model, *args, **{"settings": QUICK, **options})
