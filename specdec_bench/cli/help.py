"""Makes the text of --help from conf/config.yaml and the groups that a user chooses from.

Hydra's own way takes 3 to 8 s: it composes the configuration and copies it once for every group.
"""

from collections.abc import Sequence
from pathlib import Path

import yaml

from specdec_bench.config.compose import CONF

_OF_HYDRA = ("hydra/launcher", "hydra/sweeper")
"""The groups below hydra/ that have options to choose from."""


def help_text(config_dirs: Sequence[Path] = ()) -> str:
    """Returns the help.

    Args:
        config_dirs: folders of plugins' YAML, and of the user's own.
    """
    template: str = yaml.safe_load((CONF / "config.yaml").read_text(encoding="utf-8"))["hydra"]["help"]["template"]
    groups = [f"{group}: {', '.join(options)}\n" for group, options in _groups([CONF, *config_dirs]).items()]
    return template.replace("$APP_CONFIG_GROUPS", "".join(groups))


def _groups(folders: Sequence[Path]) -> dict[str, list[str]]:
    """Returns the names of each group's options, all sorted."""
    found: dict[str, set[str]] = {}
    for folder in folders:
        for path in folder.glob("**/*.yaml"):
            group = path.parent.relative_to(folder).as_posix()
            if group != "." and (not group.startswith("hydra/") or group in _OF_HYDRA):
                found.setdefault(group, set()).add(path.stem)
    return {group: sorted(found[group]) for group in sorted(found)}
