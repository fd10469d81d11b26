"""Presets, YAML and `section.key=value` overrides into checked settings."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from hrpro_pipeline.configs.presets import DEFAULT_PRESET, preset_names, preset_text
from hrpro_pipeline.configs.schema import Settings
from hrpro_pipeline.errors import ProblemsError, UsageError


def load_settings(preset: str = DEFAULT_PRESET, overrides: Iterable[str] = ()) -> Settings:
    """A preset with `section.key=value` overrides applied, checked.

    Values are read as YAML: numbers, true/false, [lists].

    Raises:
        UsageError: an unknown preset, or every wrong key or value, with the nearest right one.

    Examples:
        >>> settings = load_settings("gtea", ["snippet.steps=300"])
        >>> settings.extract.fps, settings.snippet.steps, settings.snippet.batch_size
        (15.0, 300, 16)
        >>> load_settings(overrides=["snippet.step=300"])
        Traceback (most recent call last):
        ...
        hrpro_pipeline.errors.UsageError: `overrides`: snippet.step: no such setting; did you mean snippet.steps?
    """
    if preset not in preset_names():
        raise UsageError(f"preset {preset!r} does not exist{_nearest(preset, preset_names())}")
    values = yaml.safe_load(preset_text(preset)) or {}
    return _overridden(values | {"preset": preset}, overrides)


def override_settings(settings: Settings, overrides: Iterable[str]) -> Settings:
    """Settings with `section.key=value` overrides applied, checked. Raises UsageError as `load_settings` does."""
    return _overridden(settings.model_dump(mode="json"), overrides)


def _overridden(values: dict[str, Any], overrides: Iterable[str]) -> Settings:
    """Nested plain values with overrides over them -> Settings. Raises UsageError."""
    for override in overrides:
        section, name, value = _parse_override(override)
        values.setdefault(section, {})[name] = value
    try:
        return check_settings(values, "`overrides`")
    except ProblemsError as error:
        raise UsageError(str(error)) from None


def _parse_override(override: str) -> tuple[str, str, Any]:
    """`section.key=value` -> section, key, value."""
    key, equals, text = override.partition("=")
    section, dot, name = key.strip().partition(".")
    if not (equals and dot and name) or section == "preset":
        raise UsageError(f"`overrides` {override}: expected section.key=value, such as snippet.steps=500")
    try:
        # YAML 1.1 reads 1e-4 as text; pydantic turns numeric text into the number that was meant.
        return section, name, yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        raise UsageError(f"`overrides` {override}: the value is not a number, word or [list]") from None


def check_settings(values: Mapping[str, Any], origin: str) -> Settings:
    """Nested plain values -> Settings. Raises ProblemsError, which names their `origin`."""
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise ProblemsError(origin, [_explain(item) for item in error.errors()]) from None


def dump_settings(settings: Settings) -> str:
    """YAML text of all settings, defaults included."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)


def _explain(item: Any) -> str:
    """The problem of one of pydantic's error items: the key, what is wrong, what the setting is."""
    parts = [str(part) for part in item["loc"]]
    key = ".".join(parts)
    if item["type"] != "extra_forbidden":
        return f"{key}: {item['msg']}, got {item['input']!r}{_meaning(parts)}"
    owner: type[BaseModel] = Settings
    if len(parts) > 1:
        owner = type(getattr(Settings(), parts[0]))
    hint = _nearest(parts[-1], owner.model_fields, ".".join(parts[:-1]))
    return f"{key}: no such setting{hint}"


def _meaning(parts: Sequence[str]) -> str:
    """Description and default of the setting `parts[0].parts[1]`; empty for an error about a whole section."""
    section = getattr(Settings(), parts[0], None)
    if not isinstance(section, BaseModel) or len(parts) < 2:
        return ""
    field = type(section).model_fields[parts[1]]
    default = section.model_dump(mode="json")[parts[1]]
    return f"; {parts[0]}.{parts[1]} is: {field.description} ({str(default).replace(chr(39), '')} by default)"


def _nearest(word: str, known: Iterable[str], section: str = "") -> str:
    """A hint for an unknown word: the nearest known one, or all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    prefix = f"{section}." if section else ""
    if near:
        return f"; did you mean {prefix}{near[0]}?"
    return f"; there are: {', '.join(prefix + name for name in names)}"
