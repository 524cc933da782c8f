"""Reads each YAML file of an experiment whole and checks it. Every error names its file."""

import copy
from pathlib import Path

import yaml
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig

from specdec_bench.config import plugins
from specdec_bench.config.compose import CONF
from specdec_bench.errors import ConfigError

GLOBAL_GROUPS = ("experiment", "sweep")
"""Groups whose files set fields of the whole experiment. Their first line must be `HEADER`."""
HEADER = "# @package _global_"

_loaded: dict[str, tuple[Path, DictConfig]] = {}
_conf: dict[str, ConfigResult] = {}
"""The files of `CONF` that were read. Every cell of a sweep reads the same dozen, and a copy takes a fifth as long."""


class CheckedFiles(FileConfigSource):
    """Hydra's file reader, with one-line errors."""

    def load_config(self, config_path: str) -> ConfigResult:
        """Returns a file's content.

        Raises:
            ConfigError: it cannot be read, is not YAML, is not a mapping, or lacks its header.
        """
        if config_path in _conf and Path(self.path) == CONF:
            return copy.deepcopy(_conf[config_path])  # Hydra changes what it is given
        path = Path(self.path, self._normalize_file_name(config_path))
        try:
            result = super().load_config(config_path)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            line = "" if mark is None else f":{mark.line + 1}"
            raise ConfigError(f"{path}{line}: is not valid YAML: {error.problem}; correct that line") from None
        except UnicodeDecodeError as error:
            raise ConfigError(
                f"{path}: is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8"
            ) from None
        except RecursionError:
            raise ConfigError(f"{path}: an anchor in it holds itself; write the values out") from None
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None
        except ValueError as error:
            raise ConfigError(f"{path}: is not valid YAML: {' '.join(str(error).split())}; correct it") from None
        if Path(self.path) == CONF:
            _conf[config_path] = copy.deepcopy(result)
        else:
            _check(result, path, config_path)
            _loaded[config_path.removesuffix(".yaml")] = (path, result.config)  # type: ignore[assignment]
        return result


# Launchers pass the registry to processes that register Hydra's own class again. The registry refuses a class of
# another name.
CheckedFiles.__name__ = FileConfigSource.__name__


class PluginFolders(SearchPathPlugin):
    """Adds plugins' folders to those that Hydra searches for YAML."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Adds them after the project's own."""
        for name, folder in plugins.FOLDERS.items():
            search_path.append(provider=name, path=f"file://{folder}")


def register() -> None:
    """Makes Hydra read files with `CheckedFiles` and search plugins' folders. Forgets the user's files read before."""
    Plugins.instance().register(PluginFolders)  # its instance registers Hydra's own first
    SourcesRegistry.instance().types[CheckedFiles.scheme()] = CheckedFiles
    _loaded.clear()


def loaded() -> dict[str, tuple[Path, DictConfig]]:
    """Returns the path and content of each of the user's own files read since `register`, by GROUP/NAME."""
    return _loaded


def _check(result: ConfigResult, path: Path, config_path: str) -> None:
    group, content = config_path.rpartition("/")[0], result.config
    if not isinstance(content, DictConfig):
        raise ConfigError(f"{path}: holds a list; write fields and values, as 'seed: 1'")
    if len(content) == 0:
        raise ConfigError(f"{path}: is empty; write fields and values, as 'seed: 1'")
    if len(content) == 1 and " " in str(next(iter(content))):
        raise ConfigError(f"{path}: holds only a text; write fields and values, as 'seed: 1'")
    package = result.header.get("package")
    if group.partition("/")[0] in GLOBAL_GROUPS and package != "_global_":
        found = "its first line is not" if package is None else f"its package is {package}, not"
        raise ConfigError(f"{path}: {found} '{HEADER}', which makes its fields the experiment's; write it at the top")
