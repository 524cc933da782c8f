"""Trains a drafter of each further method for the bundled target, all at once: `python training/train_drafters.py`.

It prepares one set of data (the running Python's library, cut into conversations, and replies that the bundled target
wrote itself), trains each drafter in a process of its own, measures it on the demo prompts beside the same head with
random weights, and writes OUT/tiny/NAME with the checkpoint, its model card and acceptance.json.
"""

import argparse
import hashlib
import importlib
import itertools
import json
import math
import os
import platform
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import corpus
import llama
import numpy as np
import torch
import train_tiny
from observing import Acceptance, measure_acceptance

BUNDLED = Path(__file__).parents[1] / "specdec_bench" / "assets" / "tiny"
DEMO = BUNDLED.parent / "demo.jsonl"
RATES = {"eagle": 2e-3, "medusa": 2e-3, "mtp": 2e-3, "dflash": 2e-3, "dspark": 2e-3, "pard": 1e-3, "peagle": 1e-3}
"""Peak learning rate of each drafter; pard and peagle start from the bundled draft and head."""
DRAFT_LENGTHS = {"eagle": 3, "medusa": 4, "mtp": 3, "dflash": 7, "dspark": 5, "pard": 5, "peagle": 4}
"""Draft length at which each is measured."""


DATA = ("steps", "batch", "length", "conversations")
"""Options that decide what a drafter is trained on."""


def prepare(work: Path, options: argparse.Namespace) -> None:
    """Writes tokens.npy and generated.npy, unless they are there."""
    shutil.copytree(BUNDLED / "target", work / "target", dirs_exist_ok=True)
    if not (work / "corpus.json.xz").exists():
        corpus.collect(work / "corpus.json.xz")
    if not (work / "tokens.npy").exists():
        rows = train_tiny.encoded(work, options.conversations, train_tiny.SEED)
        np.save(work / "tokens.npy", np.array(list(itertools.chain.from_iterable(rows)), dtype=np.uint16))
    if not (work / "generated.npy").exists():
        train_tiny.generate(work, options)


def demo_prompts(work: Path, number: int) -> list[list[int]]:
    """Returns the ids of the first turns of every so many demo conversations, so that all categories are there."""
    rows = [json.loads(line)["turns"][0] for line in DEMO.read_text(encoding="utf-8").splitlines()]
    chosen = rows[:: max(1, len(rows) // number)][:number]
    tokenizer = train_tiny.load_tokenizer(work)
    return [tokenizer.encode(corpus.render([("user", text)]) + "<|assistant|>").ids for text in chosen]


def randomize(head: torch.nn.Module) -> None:
    """Gives every trainable matrix random weights; norms keep their ones."""
    for parameter in head.parameters():
        if parameter.requires_grad and parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)


def wilson(accepted: int, steps: int) -> tuple[float, float]:
    """Returns the 95% interval of accepted / steps. Source: Wilson (1927), the score interval."""
    z = 1.959964
    p, scale = accepted / steps, 1 + z * z / steps
    half = z * math.sqrt(p * (1 - p) / steps + z * z / (4 * steps * steps)) / scale
    middle = (p + z * z / (2 * steps)) / scale
    return max(0.0, middle - half), middle + half  # rounding makes 0 of 878 a hair negative


def describe(acceptance: Acceptance) -> dict[str, Any]:
    """Returns the counts and what follows from them."""
    accepted, steps = acceptance.accepted_by_position, acceptance.steps
    return {
        "steps": steps,
        "accepted_by_position": list(accepted),
        "acceptance_rate_at_position_1": accepted[0] / steps,
        "interval_95": list(wilson(accepted[0], steps)),
        "acceptance_length": acceptance.length,
    }


def train(name: str, work: Path, out: Path, options: argparse.Namespace) -> None:
    """Trains, saves and measures one drafter."""
    began = time.perf_counter()
    module = importlib.import_module(name)
    target = train_tiny.load_target(work)
    target.requires_grad_(False)
    prompts, draft_length = demo_prompts(work, options.prompts), DRAFT_LENGTHS[name]

    def measured(head: Any) -> dict[str, Any]:
        head.to(llama.DEVICE).float().eval()

        def propose(tokens: torch.Tensor, length: int) -> list[int]:
            return head.propose(target, tokens, length)

        return describe(measure_acceptance(propose, target, prompts, draft_length, options.max_new_tokens))

    torch.manual_seed(train_tiny.SEED)
    untrained = module.Drafter(target)
    randomize(untrained)
    of_random = measured(untrained)
    torch.manual_seed(train_tiny.SEED)
    head = module.Drafter(target)
    if hasattr(head, "warm_start"):
        head.warm_start(BUNDLED)
    head.to(llama.DEVICE)
    data = train_tiny.mixed(work, options.batch, options.length)
    loss = llama.fit(head, lambda ids: head.loss(target, ids), data, RATES[name], options.steps)
    seconds = time.perf_counter() - began
    folder = out / "tiny" / name
    head.save(folder)
    head.to(torch.bfloat16)  # measured as it was written
    of_trained = measured(head)
    weights = sorted((out / "tiny").glob(f"{name}*/model.safetensors"))
    record = {
        "drafter": name,
        "command": options.command,
        "draft_length": draft_length,
        "parameters": sum(p.numel() for p in head.parameters() if p.requires_grad),
        "loss": loss,
        "steps": options.steps,
        "tokens_per_step": options.batch * options.length,
        "seed": train_tiny.SEED,
        "training_seconds": round(seconds, 1),
        "device": torch.cuda.get_device_name() if llama.DEVICE == "cuda" else platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "prompts": len(prompts),
        "max_new_tokens": options.max_new_tokens,
        "trained": of_trained,
        "random_weights": of_random,
        "sha256": {
            f"{path.parent.name}/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest() for path in weights
        },
    }
    (folder / "acceptance.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(card(record), encoding="utf-8")
    print(f"{name}: {json.dumps(record)}", flush=True)


def card(record: dict[str, Any]) -> str:
    """Returns the model card."""
    rows = "\n".join(
        f"| {label} | {row['acceptance_length']:.3f} | {row['accepted_by_position'][0]} of {row['steps']} "
        f"| {row['interval_95'][0]:.3f} to {row['interval_95'][1]:.3f} |"
        for label, row in (("trained", record["trained"]), ("random", record["random_weights"]))
    )
    return f"""# {record["drafter"]}: a drafter for the bundled target

Trained by `training/{record["drafter"]}.py` ({record["parameters"]:,} parameters) for {record["steps"]:,} steps of
{record["tokens_per_step"]:,} tokens, seed {record["seed"]}, on {record["device"]} in
{record["training_seconds"]} s, with torch {record["torch"]}. Final loss {record["loss"]:.4f}.
Command: `{record["command"]}`.

Data: the .py files of CPython {record["python"]}'s standard library, cut into conversations, and replies that
the bundled target wrote itself to such prompts. None of the text is included.

Acceptance of the written weights, recomputed in float32 without caches, greedy, draft length
{record["draft_length"]}, {record["prompts"]} prompts of the demo dataset, {record["max_new_tokens"]} tokens each:

| weights | acceptance length | accepted at position 1 | 95% interval |
| --- | --- | --- | --- |
{rows}

Weights and configuration: Apache-2.0, as the project; the training text is under the PSF License Agreement version 2.

sha256: {", ".join(f"`{digest}` ({path})" for path, digest in record["sha256"].items())}
"""


def train_all(names: list[str], arguments: list[str], out: Path) -> int:
    """Trains the drafters in parallel processes, each logging to OUT/NAME.log; returns how many failed."""
    threads = str(max(1, (os.cpu_count() or 1) // len(names)))
    environment = os.environ | {"OMP_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false"}
    running = {}
    for name in names:
        with (out / f"{name}.log").open("w", encoding="utf-8") as log:
            command = [sys.executable, __file__, *arguments, "--one", name]
            running[name] = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
    codes = {name: process.wait() for name, process in running.items()}
    for name, code in codes.items():
        tail = (out / f"{name}.log").read_text(encoding="utf-8").splitlines()[-1:]
        print(f"{name}: exit {code}: {' '.join(tail)}", flush=True)
    return sum(code != 0 for code in codes.values())


def main() -> None:
    """Prepares the data once, then trains."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=os.environ.get("OUT"), help="default: $OUT")
    parser.add_argument("--work", type=Path, default=Path("work"), help="where the data is kept")
    parser.add_argument("--drafters", nargs="+", choices=RATES, default=list(RATES))
    parser.add_argument("--one", choices=RATES, help=argparse.SUPPRESS)
    parser.add_argument("--device", choices=("cpu", "cuda"), default=llama.DEVICE)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=32, help="rows of a step")
    parser.add_argument("--length", type=int, default=256, help="tokens of a row")
    parser.add_argument("--conversations", type=int, default=80_000)
    parser.add_argument("--generate-batch", type=int, default=1024)
    parser.add_argument("--prompts", type=int, default=20, help="demo prompts that acceptance is measured on")
    parser.add_argument("--max-new-tokens", type=int, default=64)
    options = parser.parse_args()
    if options.out is None:
        parser.error("give --out or set OUT")
    options.out, llama.DEVICE = Path(options.out), options.device
    changed = {key: value for key, value in vars(options).items() if key in DATA and value != parser.get_default(key)}
    options.command = " ".join(
        ["python training/train_drafters.py --out OUT", *(f"--{key} {value}" for key, value in changed.items())]
    )
    options.out.mkdir(parents=True, exist_ok=True)
    options.work.mkdir(parents=True, exist_ok=True)
    random.seed(train_tiny.SEED)
    if options.one:
        train(options.one, options.work, options.out, options)
        return
    began = time.perf_counter()
    prepare(options.work, options)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # what generating took; the drafters train in processes of their own
    print(f"data: {time.perf_counter() - began:.0f} s", flush=True)
    sys.exit(1 if train_all(options.drafters, sys.argv[1:], options.out) else 0)


if __name__ == "__main__":
    main()
