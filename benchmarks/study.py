"""Which method at which load, on a real model: `python benchmarks/study.py FOLDER --draft D --eagle3 E --questions Q`.

Runs SmolLM2 on vLLM or SGLang with MT-Bench, up to 128 tokens a turn, K=3: plain decoding, n-grams, the draft model D
and the EAGLE-3 head E (`training/train_smollm2.py` makes both) at 1, 16 and 64 in flight, three times each, in rounds.
FOLDER gets the YAML of the sweep and the sweep itself.

After `--minutes` the sweep is stopped as by Ctrl-C. The same command again goes on with it. All other arguments are the
sweep's: `--dry-run`, `engine.enforce_eager=true`.
"""

import argparse
import sys
import time
from pathlib import Path

from limited_run import run_for

LOADS = {1: (20, 1), 16: (80, 1), 64: (80, 4)}
"""Conversations and how often they are repeated, by how many are in flight: always whole batches, or a cell's end would
be of smaller ones."""
EXPERIMENT = """\
# @package _global_
load: {{concurrency: {concurrency}, num_warmup: {concurrency}, repeats: {repeats}}}
dataset: {{num_prompts: {num_prompts}}}
"""
MODEL = """\
defaults: [smollm2_135m_q4_1, _self_]
drafts:
  draft_model: {{path: {draft}, revision: null}}
  eagle3: {{path: {eagle3}, revision: null}}
"""


def write_yaml(folder: Path, options: argparse.Namespace) -> None:
    """Writes the model with its drafters, and an experiment for each load, so that one engine runs all loads."""
    files = {"model/with_drafters": MODEL.format(draft=options.draft.resolve(), eagle3=options.eagle3.resolve())}
    for concurrency, (num_prompts, repeats) in LOADS.items():
        files[f"experiment/at_{concurrency}"] = EXPERIMENT.format(
            concurrency=concurrency, num_prompts=num_prompts, repeats=repeats
        )
    for name, text in files.items():
        path = folder / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def arguments(options: argparse.Namespace) -> list[str]:
    """Returns the arguments of run.py that begin the sweep, or go on with it."""
    sweep = options.folder.resolve() / "sweep"
    if (sweep / "sweep.json").is_file():
        return [f"resume={sweep}"]
    conf = options.folder.resolve() / "conf"
    write_yaml(conf, options)
    experiments = ",".join(f"at_{concurrency}" for concurrency in options.loads.split(","))
    return [
        "-m",
        f"--config-dir={conf}",
        f"engine={options.engine}",
        "engine.max_num_seqs=64",
        "model=with_drafters",
        "dataset=mt_bench",
        f"dataset.path={options.questions.resolve()}",
        "sampling.max_new_tokens=128",
        f"spec={options.methods}",
        f"experiment={experiments}",
        f"replicate=range(0,{options.replicates})",
        "order=replicates",
        "control=true",
        f"hydra.sweep.dir={sweep}",
        *options.overrides,
    ]


def main() -> None:
    """Runs the sweep, or goes on with it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--draft", type=Path, required=True, help="the draft model's folder")
    parser.add_argument("--eagle3", type=Path, required=True, help="the head's folder")
    parser.add_argument("--questions", type=Path, required=True, help="MT-Bench's question.jsonl")
    parser.add_argument("--engine", choices=("vllm", "sglang"), default="vllm")
    parser.add_argument("--methods", default="none,ngram,draft_model,eagle3")
    parser.add_argument("--loads", default=",".join(map(str, LOADS)), help="some of the default's")
    parser.add_argument("--replicates", type=int, default=3)
    parser.add_argument("--minutes", type=float, help="after which the sweep is stopped; it runs to its end by default")
    options, overrides = parser.parse_known_args()
    options.overrides = overrides
    began = time.perf_counter()
    status = run_for(options.minutes and 60 * options.minutes, *arguments(options))
    finished = len(list((options.folder / "sweep").glob("*/summary.json")))
    print(f"{finished} runs have a summary; {time.perf_counter() - began:.0f} s")
    sys.exit(status)


if __name__ == "__main__":
    main()
