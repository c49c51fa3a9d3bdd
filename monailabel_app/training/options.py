# SPDX-License-Identifier: Apache-2.0
"""What a training may be asked for, by a viewer or on the command line."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from medreasoner_training.finetune import (
    FineTuneConfig,
    config_from_dict,
    read_config,
    shipped_configs,
)
from monailabel_app.common.door import is_clean_text
from monailabel_app.common.fields import (
    given,
    read_bool,
    read_choice,
    read_int,
    read_numbers,
    read_text,
    shown,
)
from monailabel_app.training.errors import TrainOptionError

AS_CONFIGURED = "as configured"
DEFAULT_CONFIG = "embedded"
# Model, store, gate, servers and the page of a run (watch) are the administrator's.
_VIEWERS_SECTIONS = frozenset({"grpo", "sft", "lora", "rewards", "augmentation", "run"})
_OWN = (
    "config", "tuning", "method", "steps", "learning_rate", "seed", "val_share", "max_slices",
    "fresh",
)  # fmt: skip
# Sent by MONAI Label's clients; they mean nothing here.
_STOCK = frozenset({"model", "client_id", "name"})
# Of the viewers' sections: a path, a pattern that may take for ever, the server's hardware, and
# where figures are sent.
_NOT_THE_VIEWERS = frozenset(
    {"run.accelerate_config", "lora.target_modules", "run.device", "run.gpu_gb", "run.report_to"}
)
_MAX_OPTIONS, _MAX_CHARACTERS, _MAX_VALUES, _MAX_DIGITS = 64, 200, 64, 18
_KEY = re.compile(r"[a-z_]{1,32}(\.[a-z_]{1,32}){0,2}")
_NUMBER = (bool, int, float, type(None))


@dataclass(frozen=True)
class TrainOptions:
    """One training.

    Attributes:
        name: of the configuration, for folders.
        config: checked; its data folder is set once the data set is exported.
        fresh: begin anew although an unfinished run could be resumed.
        val_share: share of the patients that validate.
        max_slices: slices per target of a label.
    """

    name: str
    config: FineTuneConfig
    fresh: bool = False
    val_share: float = 0.2
    max_slices: int = 8


def known_configs(folder: Path | None = None) -> dict[str, Path]:
    """Configurations by name: the shipped ones, and those of the administrator's ``folder``."""
    own = {} if folder is None else {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    return shipped_configs() | own


def viewer_options(configs: Mapping[str, Path], default: str = DEFAULT_CONFIG) -> dict[str, Any]:
    """The options as viewers show them; a list becomes a choice with its first entry as default."""
    return {
        "config": sorted(configs, key=lambda name: (name != default, name)),
        "tuning": [AS_CONFIGURED, "lora", "full"],
        "method": [AS_CONFIGURED, "grpo", "sft"],
        "steps": "",
        "learning_rate": "",
        "seed": "",
        "val_share": 0.2,
        "max_slices": 8,
        "fresh": False,
    }


def read_options(
    request: Mapping[str, Any], configs: Mapping[str, Path], default: str = DEFAULT_CONFIG
) -> TrainOptions:
    """The options of a viewer's request; dotted keys such as ``grpo.generations`` are taken too.

    Raises:
        TrainOptionError: a key is unknown or not a viewer's, or a value is more than a number or a
            short text.
        InputError: a value cannot be used; the message names the key.
    """
    _refuse_unknown(request)
    for key, value in request.items():
        _refuse_elaborate(key, value)
    name = read_text(request, "config") or default
    config = named_config(name, configs)
    overrides = {key: value for key, value in request.items() if "." in key}
    return TrainOptions(
        name,
        overridden(config, {**_short_overrides(request, config), **overrides}),
        fresh=read_bool(request, "fresh") or False,
        val_share=_share(request),
        max_slices=read_int(request, "max_slices", minimum=1) or TrainOptions.max_slices,
    )


def named_config(name: str, configs: Mapping[str, Path]) -> FineTuneConfig:
    """The configuration of that name.

    Raises:
        TrainOptionError: there is none.
        FineTuneConfigError: its file cannot be used.
    """
    if name not in configs:
        raise TrainOptionError(
            f"There is no configuration {shown(name)}; expected one of {', '.join(configs)}."
        )
    return read_config(configs[name])


def overridden(config: FineTuneConfig, overrides: Mapping[str, Any]) -> FineTuneConfig:
    """The configuration with other values by dotted key; texts are read as YAML.

    Raises:
        TrainOptionError: a text is no YAML, or no plain value; a key cannot be set.
        FineTuneConfigError: a key is unknown or a value cannot be used.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    values = OmegaConf.create(config.to_dict())
    for key, value in overrides.items():
        read = _read_yaml(key, value)
        try:
            OmegaConf.update(values, key, read, merge=False, force_add=True)
        except (OmegaConfBaseException, AttributeError, TypeError) as error:
            raise TrainOptionError(f"{key!r} is no key of a configuration.") from error
    return config_from_dict(cast("dict[str, Any]", OmegaConf.to_container(values)))


def _short_overrides(request: Mapping[str, Any], config: FineTuneConfig) -> dict[str, Any]:
    """The viewers' plain options as dotted keys; ``steps`` and the rate are the method's."""
    tuning = read_choice(request, "tuning", (AS_CONFIGURED, "lora", "full"))
    method = read_choice(request, "method", (AS_CONFIGURED, "grpo", "sft"))
    method = config.method.value if method in (None, AS_CONFIGURED) else method
    steps = read_int(request, "steps", minimum=1)
    changes = {
        "tuning": None if tuning == AS_CONFIGURED else tuning,
        "method": method,
        f"{method}.steps": steps,
        f"{method}.learning_rate": given(request, "learning_rate"),
        "run.seed": read_int(request, "seed", minimum=0),
    }
    chosen = {key: value for key, value in changes.items() if value is not None}
    return chosen | ({"grpo.epochs": None} if "grpo.steps" in chosen else {})


def _refuse_unknown(request: Mapping[str, Any]) -> None:
    if len(request) > _MAX_OPTIONS:
        raise TrainOptionError(f"{len(request)} options are given; expected {_MAX_OPTIONS}.")
    for key in request:
        if key in _OWN or key in _STOCK or _is_viewers(key):
            continue
        close = difflib.get_close_matches(key, _OWN, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise TrainOptionError(
            f"{shown(key)} is no option of training; expected one of {', '.join(_OWN)}, or a key "
            f"of the sections {', '.join(sorted(_VIEWERS_SECTIONS))}, e.g. grpo.generations.{hint}"
        )


def _is_viewers(key: str) -> bool:
    section, dot, _ = key.partition(".")
    known = bool(dot) and section in _VIEWERS_SECTIONS and key not in _NOT_THE_VIEWERS
    return known and _KEY.fullmatch(key) is not None


def _refuse_elaborate(key: str, value: Any) -> None:
    """Let through what a viewer's field holds; OmegaConf would resolve ``${oc.env:SECRET}``."""
    is_plain = isinstance(value, _NUMBER) and _is_bounded(value)
    is_text = isinstance(value, str) and len(value) <= _MAX_CHARACTERS and is_clean_text(value)
    if not (is_plain or is_text) or (is_text and "${" in value):
        raise TrainOptionError(
            f"{key!r} holds a value that is no option; expected a number, true, false, or a text "
            f"of at most {_MAX_CHARACTERS} characters without '${{'."
        )


def _is_bounded(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or abs(value) < 10**_MAX_DIGITS


def _is_flat(value: Any) -> bool:
    """Whether YAML gave a value or a short list of values; nested aliases grow without bound."""
    if isinstance(value, list):
        return len(value) <= _MAX_VALUES and all(isinstance(v, (str, *_NUMBER)) for v in value)
    return isinstance(value, (str, *_NUMBER))


def _share(request: Mapping[str, Any]) -> float:
    value = given(request, "val_share")
    if value is None:
        return TrainOptions.val_share
    numbers = read_numbers({"val_share": str(value)}, "val_share", 1, "a share such as 0.2")
    share = TrainOptions.val_share if numbers is None else numbers[0]
    if not 0 < share < 1:
        raise TrainOptionError(f"'val_share' is {share}; expected more than 0 and less than 1.")
    return share


def _read_yaml(key: str, value: Any) -> Any:
    import yaml

    if not isinstance(value, str):
        return value
    try:
        read = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # ValueError: a date of month 13, an integer of too many digits.
        raise TrainOptionError(
            f"{key!r} is {shown(value)}; expected a value as in YAML, e.g. 3, 2.0e-4 or true."
        ) from error
    if not _is_flat(read):
        raise TrainOptionError(
            f"{key!r} is {shown(value)}; expected one value, or a list of at most {_MAX_VALUES}."
        )
    return read
