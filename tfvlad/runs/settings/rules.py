"""What a setting may be: rules that stand with the fields, and the check of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import field, fields
from typing import Any

# Of every stack; a stage refuses those that its own has not.
OPTIMIZERS = ("adam", "sgd", "rectified_adam", "lookahead")


def setting(default: Any, **rule: Any) -> Any:
    """A field whose values keep a rule: see `check_rules`."""
    return field(default=default, metadata=rule)


def without_effect(name: str, value: Any, why: str) -> ValueError:
    """The error about a setting that would do nothing."""
    return ValueError(f"`{name}` has no effect on {why}. Received: {name}={value!r}. Leave it out.")


def check_rules(settings: Any) -> None:
    """Refuse values that break their field's rule; paths become texts, and pairs tuples.

    Raises:
        ValueError: when one does.
    """
    for one in fields(settings):
        value = getattr(settings, one.name)
        if isinstance(value, os.PathLike):
            object.__setattr__(settings, one.name, os.fspath(value))
        if isinstance(one.default, tuple):
            values = tuple(value) if isinstance(value, (tuple, list)) else ()
            if len(values) != len(one.default):
                raise ValueError(
                    f"`{one.name}` must be {len(one.default)} numbers, of stage 1 and of stage 2. "
                    f"Received: {one.name}={value!r}."
                )
            object.__setattr__(settings, one.name, values)
        elif value is None and "None" in str(one.type):
            continue
        else:
            values = (value,)
        for number in values:
            if wrong := _broken_rule(number, str(one.type), one.metadata):
                raise ValueError(f"`{one.name}` must be {wrong}. Received: {one.name}={value!r}.")


def _broken_rule(value: Any, kind: str, rule: Mapping[str, Any]) -> str:
    """What a value must be and is not; "" where it keeps its rule.

    Args:
        value: of a field.
        kind: the field's annotation.
        rule: `choices`, `minimum`, `maximum`, `above` and `below`. With both choices and a bound, a
            number within the bound or one of the choices.
    """
    choices = rule.get("choices", ())
    # Not `in` alone: True is equal to 1.
    if any(type(value) is type(choice) and value == choice for choice in choices):
        return ""
    is_whole = "int" in kind
    bounds = {
        "minimum": ("at least", lambda bound: value >= bound),
        "above": ("more than", lambda bound: value > bound),
        "maximum": ("at most", lambda bound: value <= bound),
        "below": ("less than", lambda bound: value < bound),
    }
    asked = [name for name in bounds if name in rule]
    if not asked:
        if choices:
            return "one of " + ", ".join(map(str, choices))
        if "bool" in kind:
            return "" if isinstance(value, bool) else "True or False"
        return "" if isinstance(value, (str, os.PathLike)) else "a text"
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if (
        is_number
        and (isinstance(value, int) or not is_whole)
        and abs(value) != float("inf")
        and all(bounds[name][1](rule[name]) for name in asked)
    ):
        return ""
    named = " and ".join(f"{bounds[name][0]} {rule[name]}" for name in asked)
    described = f"{'a whole number' if is_whole else 'a number'}, {named}"
    return described + "".join(f', or "{choice}"' for choice in choices)
