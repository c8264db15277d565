"""The values of a trial: from a search space, with some of them fixed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

import keras_tuner

Space = Callable[[keras_tuner.HyperParameters], Mapping[str, Any]]


def chosen_values(
    hp: keras_tuner.HyperParameters,
    space: Space,
    fixed: Mapping[str, Any],
    known: Collection[str],
) -> dict[str, Any]:
    """What a space chooses, with `fixed` values in their place.

    Args:
        hp: of the trial.
        space: returns the values by name.
        fixed: values by name; KerasTuner records them with the trial and does not search for them.
        known: names that the hyper-model takes.

    Raises:
        ValueError: when the space, or `fixed`, has a value of another name.
    """
    for name, value in fixed.items():
        hp.Fixed(name, value)
    values = {**space(_WithFixed(hp, fixed)), **fixed}
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ValueError(
            f"A space and `fixed` must name values of {', '.join(sorted(known))}. "
            f"Received: {', '.join(unknown)}."
        )
    return values


def parameters_of(builder: Callable[..., Any]) -> set[str]:
    """The keyword-only arguments of a model's builder."""
    parameters = inspect.signature(builder).parameters.values()
    return {p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "name"}


def defaults_of(builder: Callable[..., Any]) -> dict[str, Any]:
    """What a model's builder takes for its keyword-only arguments where none are given."""
    parameters = inspect.signature(builder).parameters
    return {name: parameters[name].default for name in sorted(parameters_of(builder))}


class _WithFixed:
    """KerasTuner's `hp`, with which a space cannot search for a fixed value.

    Without it, a value that the space has under a condition would be registered a second time.
    """

    def __init__(self, hp: keras_tuner.HyperParameters, fixed: Mapping[str, Any]):
        self._hp = hp
        self._fixed = fixed

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._hp, name)
        if name not in ("Boolean", "Choice", "Fixed", "Float", "Int"):
            return found

        def register(name: str, *arguments: Any, **options: Any) -> Any:
            return self._fixed[name] if name in self._fixed else found(name, *arguments, **options)

        return register
