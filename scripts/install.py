# SPDX-License-Identifier: Apache-2.0
"""Install this package into the environment whose interpreter runs this file.

Run: ``.venv/bin/python scripts/install.py run`` for what ``medreasoner serve`` needs, ``all`` for
tests, lint and documentation as well. Versions are those of ``constraints/monailabel.txt``.

uv does it with pip's own settings (index, find-links, certificate …); where it is not to be had,
does not know one of the settings, or fails, pip does, which installs more and takes longer.
"""

from __future__ import annotations

import argparse
import ast
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "constraints" / "monailabel.txt"
LEFT_OUT = ROOT / "constraints" / "left_out.txt"
LEFT_OUT_WITHOUT_GPU = ROOT / "constraints" / "left_out_without_gpu.txt"
EXTRAS = {
    "run": ("monailabel", "pacs"),
    "all": ("monailabel", "train", "pacs", "postgres", "ray", "litemedsam", "dev", "docs"),
}
# sam2 asks for any torch to be built with: in isolation, that would be a second, newer one.
BUILT_BESIDE_TORCH = "sam2"
TORCH = ("torch", "torchvision", "setuptools")


class UnknownSettingError(Exception):
    """pip has a setting that uv cannot be told."""


@dataclass(frozen=True)
class UvSettings:
    """pip's settings as uv takes them: options of ``uv pip install``, and its environment."""

    options: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


def main() -> int:
    """Install what is asked for; the exit status is the installing program's."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=sorted(EXTRAS))
    parser.add_argument(
        "--gpu",
        choices=("auto", "yes", "no"),
        default="auto",
        help="whether to install what only NVIDIA GPUs need; by default if there is one",
    )
    parser.add_argument("--installer", choices=("uv", "pip"), default="uv")
    parser.add_argument(
        "--copy", action="store_true", help="copy the package, so that this folder may go"
    )
    asked = parser.parse_args()
    package = f"{ROOT}[{','.join(EXTRAS[asked.what])}]"
    wanted = (package,) if asked.copy else ("--editable", package)
    gpu = asked.gpu == "yes" or (asked.gpu == "auto" and has_gpu())
    os.environ.setdefault("SAM2_BUILD_CUDA", "0")  # a CUDA kernel that is not used here
    if asked.installer == "uv":
        settings = settings_for_uv()
        if settings is not None and install_by_uv(wanted, settings, left_out_of(asked.what, gpu)):
            return 0
        print("pip installs it now, which takes longer.", flush=True)
    return install_by_pip(wanted)


def left_out_of(what: str, gpu: bool) -> tuple[Path, ...]:
    """Lists of packages that such an installation does without; tests and checks take all."""
    if what == "all":
        return ()
    return (LEFT_OUT,) if gpu else (LEFT_OUT, LEFT_OUT_WITHOUT_GPU)


def has_gpu() -> bool:
    """Whether NVIDIA's driver tells of a GPU."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return False
    return subprocess.run([program, "-L"], capture_output=True, check=False).returncode == 0


def settings_for_uv() -> UvSettings | None:
    """pip's settings for uv; ``None``, said why, where uv is not to be had or cannot follow."""
    try:
        settings = as_uv_takes_them(pip_settings())
    except UnknownSettingError as error:
        print(f"uv does not know pip's setting {error}.", flush=True)
        return None
    with step("Getting uv"):
        got = run(pip_install("--quiet", "uv", "setuptools"))
    return settings if got == 0 else None


def pip_settings() -> dict[str, str]:
    """What ``pip install`` is told by files and environment, by the options' names."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return effective_settings(listed.splitlines())


def effective_settings(listed: Sequence[str]) -> dict[str, str]:
    """Of ``pip config list`` the values that hold: the environment's before install's and all's."""
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listed:
        key, _, value = line.partition("=")
        section, _, name = key.rpartition(".")
        if section in sections:
            sections[section][name] = ast.literal_eval(value)
    return {name: value for section in sections.values() for name, value in section.items()}


_OPTIONS = {
    "index-url": "--default-index",
    "extra-index-url": "--extra-index-url",
    "find-links": "--find-links",
    "trusted-host": "--allow-insecure-host",
}
_SWITCHES = {"no-index": "--no-index"}
_ENVIRONMENT = {
    "cert": ("SSL_CERT_FILE",),
    "client-cert": ("SSL_CLIENT_CERT",),
    "proxy": ("HTTPS_PROXY", "HTTP_PROXY"),
    "timeout": ("UV_HTTP_TIMEOUT",),
    "default-timeout": ("UV_HTTP_TIMEOUT",),
    "retries": ("UV_HTTP_RETRIES",),
}
# How pip speaks and where it keeps its own files; nothing that changes what is installed.
_OF_PIP_ALONE = frozenset(
    {
        "cache-dir",
        "compile",
        "config-file",
        "disable-pip-version-check",
        "log",
        "no-cache-dir",
        "no-color",
        "no-compile",
        "no-input",
        "no-python-version-warning",
        "no-warn-script-location",
        "progress-bar",
        "quiet",
        "require-virtualenv",
        "root-user-action",
        "use-feature",
        "verbose",
    }
)


def as_uv_takes_them(settings: Mapping[str, str]) -> UvSettings:
    """Translate pip's settings.

    Raises:
        UnknownSettingError: one of them has no counterpart; the message is its name.
    """
    options: list[str] = []
    environment: dict[str, str] = {}
    for name, value in settings.items():
        if name in _OPTIONS:
            options += [word for item in value.split() for word in (_OPTIONS[name], item)]
        elif name in _SWITCHES:
            options += [_SWITCHES[name]] if value.lower() in {"1", "true", "yes", "on"} else []
        elif name in _ENVIRONMENT:
            environment |= dict.fromkeys(_ENVIRONMENT[name], value)
        elif name not in _OF_PIP_ALONE:
            raise UnknownSettingError(name)
    return UvSettings(tuple(options), environment)


def install_by_uv(
    wanted: Sequence[str], settings: UvSettings, left_out: Sequence[Path] = ()
) -> bool:
    """Install torch first, then the rest; returns whether it has worked."""
    command = uv_install(settings, left_out)
    environment = {**os.environ, **settings.environment}
    beside = ["--no-build-isolation-package", BUILT_BESIDE_TORCH]
    with step("Installing torch"):
        done = run([*command, *TORCH], environment)
    if done != 0:
        return False
    with step("Installing the other packages"):
        return run([*command, *beside, *wanted], environment) == 0


def uv_install(settings: UvSettings, left_out: Sequence[Path] = ()) -> list[str]:
    """The command that installs what is named behind it; versions are chosen as pip chooses."""
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or "uv"
    command = [uv, "pip", "install", "--python", sys.executable]
    command += ["--index-strategy", "unsafe-best-match", *settings.options]
    command += ["--constraint", str(CONSTRAINTS)]
    for path in left_out:
        command += ["--excludes", str(path)]
    return command


def install_by_pip(wanted: Sequence[str]) -> int:
    """The same by pip, which leaves nothing out."""
    steps = {
        "Installing torch": TORCH,
        "Building SAM2": ("--no-build-isolation", "--no-deps", BUILT_BESIDE_TORCH),
        "Installing the other packages": wanted,
    }
    for title, words in steps.items():
        with step(title):
            done = run(pip_install(*words))
        if done != 0:
            return done
    return 0


def pip_install(*words: str) -> list[str]:
    """pip's command for these words, within the constraints."""
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
    return [*command, "--constraint", str(CONSTRAINTS), *words]


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
    """Run a command that shows what it does; returns its exit status."""
    return subprocess.run(command, env=environment, check=False).returncode


@contextmanager
def step(title: str) -> Iterator[None]:
    """Tell what is done, and how long it took."""
    print(f"{title} …", flush=True)
    start = time.monotonic()
    yield
    print(f"{title}: {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
