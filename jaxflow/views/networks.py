"""What a recognition network asks of its clips."""

from typing import Any

from jaxflow import _checks, models, spec


def check_network(model: Any) -> Any:
    """Returns `model` if it may be a recognition network.

    Args:
        model: Anything.

    Raises:
        ValueError: If it is a name, which has no weights, or a network for flow.
    """
    if isinstance(model, str):
        if model in models.list_models("video"):
            raise ValueError(
                f"`model` {model!r} names a network, and weights are needed too: pass "
                f"jaxflow.load_weights(jaxflow.create_model({model!r}), path)"
            )
        known = models.list_models("video")
        advice = _checks.nearest(model, known, "`jaxflow models --task video`")
        raise ValueError(
            f"`model` must be a recognition network; got {model!r}; {advice}"
        )
    if isinstance(getattr(model, "frames", None), spec.Frames):
        raise ValueError(
            "`model` must be a recognition network; got one for flow, "
            f"{type(model).__module__}.{type(model).__name__}: call "
            "jaxflow.estimate_flow"
        )
    return model


def setting(config: Any, name: str, given: Any, *, option: str | None = None) -> Any:
    """Returns an option, or what the config says instead.

    Args:
        config: Of the network.
        name: Of the field.
        given: The option; None asks the config.
        option: Name of the option, for messages, if it is another.

    Raises:
        ValueError: If there is neither, or the number is not positive.
    """
    value = getattr(config, name, None) if given is None else given
    if value is None:
        raise ValueError(
            f"`{option or name}` must be given: the model has no config.{name}"
        )
    _checks.positive(option or name, value)
    return value
