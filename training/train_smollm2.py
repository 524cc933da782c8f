"""Trains SmolLM2-135M-Instruct's drafters: an EAGLE-3 head, and a draft of a few of its own layers.

    python training/train_smollm2.py [TARGET [OUT]] --questions FOLDER --minutes 8.5 --seed 0

TARGET is a checkpoint folder, by default the one that `specdec-bench fetch model smollm2_135m_q4_1` makes. OUT is by
default where model=smollm2_135m_q4_1 looks for its drafters. OUT/eagle3 is the head. OUT/layers is the draft without
its embeddings, which are the target's, and OUT/draft the whole of it. OUT/measured.json says what they were trained on
and how much they accept.
"""

import argparse
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from smollm2 import acceptance, conversations, network, overlap, pruned
from smollm2 import head as eagle3_head
from smollm2.conversations import Conversations
from smollm2.fitting import Fit, batches, fit
from tokenizers import Tokenizer
from torch.nn.attention import SDPBackend, sdpa_kernel

from specdec_bench.config.checkpoints import FETCHED, TRAINED, resolve

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
MODEL = "smollm2_135m_q4_1"
STAGES = ("generate", "eagle3", "draft", "measure", "complete")
SHARES = {"generate": 0.3, "eagle3": 0.32, "draft": 0.32}
"""Of the minutes; what is left is for loading, checking and measuring."""
DRAFT_LENGTH = 5
HELD_OUT_ROWS = 512
MEASURED_ROWS = 16
"""At once."""


class Work:
    """What the stages share: the target, the options, and what they measure, to which every stage adds."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.out = options, options.out
        self.out.mkdir(parents=True, exist_ok=True)
        self.config = network.read_config(options.target)
        self.target = network.load_target(options.target, DEVICE)
        self.tokenizer = Tokenizer.from_file(str(options.target / "tokenizer.json"))
        path = self.out / "measured.json"
        self.measured: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def add(self, stage: str, **measured: Any) -> None:
        """Adds what a stage measured to measured.json, and prints it."""
        self.measured[stage] = measured
        (self.out / "measured.json").write_text(json.dumps(self.measured, indent=2) + "\n", encoding="utf-8")
        print(f"{stage}: {json.dumps(measured)}", flush=True)

    def seconds(self, stage: str) -> float:
        """Returns the time that a stage may take."""
        return 60 * self.options.minutes * SHARES[stage]

    def rows(self, name: str) -> Conversations:
        """Returns the `training` or the `held_out` conversations."""
        return Conversations.load(self.out / f"{name}.npz")

    def head(self) -> eagle3_head.Head:
        """Returns the head with the vocabulary that its training data give it, untrained."""
        torch.manual_seed(self.options.seed)
        size = self.options.draft_vocabulary
        vocabulary = eagle3_head.choose_vocabulary(self.rows("training"), self.config["vocab_size"], size)
        return eagle3_head.Head(self.target, vocabulary)


def generate(work: Work) -> None:
    """Writes conversations, less those whose prompts overlap with a benchmark's; the last rows are held out."""
    options, template = work.options, conversations.read_template(work.tokenizer)
    questions = overlap.read_questions(options.questions)
    written = conversations.write_for(
        work.target,
        template,
        rows=options.rows,
        length=options.length,
        seconds=work.seconds("generate"),
        seed=options.seed,
    )
    turns = list(conversations.user_turns(written, work.tokenizer, template))
    before = overlap.count_overlaps((turn for row in turns for turn in row), questions)
    kept = [row for row, of_row in enumerate(turns) if not overlap.overlaps(of_row, questions)]
    after = overlap.count_overlaps((turn for row in kept for turn in turns[row]), questions)
    if after["turns_equal_to_a_question"] or after["turns_sharing_a_run_of_words"]:
        raise RuntimeError(f"prompts that overlap with a benchmark are left: {after}")
    num_held_out = min(HELD_OUT_ROWS, len(kept) // 4)
    training, held_out = kept[:-num_held_out], kept[-num_held_out:]
    for name, rows in (("training", training), ("held_out", held_out)):
        written[np.array(rows)].save(work.out / f"{name}.npz")
    seen = {overlap.normalize(turn) for row in training for turn in turns[row]}
    firsts = [overlap.normalize(turns[row][0]) for row in held_out]
    work.add(
        "generate",
        seed=options.seed,
        device=torch.cuda.get_device_name() if DEVICE.type == "cuda" else "cpu",
        torch=torch.__version__,
        target_sha256=digest(options.target / "model.safetensors"),
        tokens_of_a_row=options.length,
        written=before | {"rows": len(turns)},
        kept=after | {"rows": len(kept)},
        training_rows=len(training),
        training_reply_tokens=int(written.is_reply[training].sum()),
        held_out_rows=len(held_out),
        held_out_first_turns_also_in_training=sum(text in seen for text in firsts),
        questions_sha256={path.name: digest(path) for path in sorted(options.questions.glob("*_question.jsonl"))},
    )
    for row in training[:: max(1, len(training) // 5)][:5]:
        print("  a prompt:", json.dumps(turns[row][0][:160]), flush=True)


def train_eagle3(work: Work) -> None:
    """Trains the head."""
    head, options = work.head(), work.options
    result = fit(
        head,
        lambda batch: eagle3_head.unrolled_loss(head, work.target, batch),
        batches(work.rows("training"), options.batch, options.seed + 1, DEVICE),
        rate=options.head_rate,
        seconds=work.seconds("eagle3"),
        on_checkpoint=lambda: eagle3_head.save(head, work.config, work.out / "eagle3"),
    )
    covered = covered_share(work, head)
    work.add("eagle3", **trained(result, head, work.out / "eagle3"), vocabulary_share_of_reply_tokens=covered)


def train_draft(work: Work) -> None:
    """Distils the draft."""
    options = work.options
    draft = pruned.prune(work.target, options.draft_layers)
    result = fit(
        draft,
        lambda batch: pruned.distillation_loss(draft, work.target, batch),
        batches(work.rows("training"), options.batch, options.seed + 2, DEVICE),
        rate=options.draft_rate,
        seconds=work.seconds("draft"),
        on_checkpoint=lambda: pruned.save(draft, work.config, work.out / "layers"),
    )
    layers = pruned.kept_layers(len(work.target.layers), options.draft_layers)
    work.add("draft", **trained(result, draft, work.out / "layers"), layers_of_the_target=layers)


def measure(work: Work) -> None:
    """Measures what was saved, in bfloat16 as saved, on held-out rows; and both untrained, for comparison."""
    held_out, found = work.rows("held_out"), dict[str, Any]()
    if (work.out / "eagle3" / "model.safetensors").is_file():
        head = work.head()
        found["eagle3_untrained"] = measured(held_out, lambda ids: eagle3_head.drafts(head, work.target, ids))
        eagle3_head.load(head, work.out / "eagle3")
        found["eagle3"] = measured(held_out, lambda ids: eagle3_head.drafts(head, work.target, ids))
    if (work.out / "layers" / "model.safetensors").is_file():
        draft = pruned.prune(work.target, work.options.draft_layers)
        found["draft_untrained"] = measured(held_out, lambda ids: pruned.drafts(draft, ids, DRAFT_LENGTH))
        pruned.load(draft, work.out / "layers")
        found["draft"] = measured(held_out, lambda ids: pruned.drafts(draft, ids, DRAFT_LENGTH))
    work.add("measure", draft_length=DRAFT_LENGTH, **found)


def measured(rows: Conversations, drafts_of: Any) -> dict[str, Any]:
    """Returns what one drafter accepted."""
    found = acceptance.measure(drafts_of, rows, DRAFT_LENGTH, MEASURED_ROWS, DEVICE)
    return {"steps": found.steps, "acceptance_by_position": found.rates, "acceptance_length": found.length}


def complete(work: Work) -> None:
    """Adds the target's embeddings and tokenizer to the draft's layers."""
    pruned.complete(work.out / "layers", work.options.target, work.out / "draft")
    work.add("complete", sha256=digest(work.out / "draft" / "model.safetensors"))


def trained(result: Fit, model: torch.nn.Module, folder: Path) -> dict[str, Any]:
    """Returns what the training run did and left."""
    file = folder / "model.safetensors"
    return {
        "steps": result.steps,
        "tokens": result.tokens,
        "seconds": round(result.seconds, 1),
        "loss": result.loss,
        "trained_parameters": sum(one.numel() for one in model.parameters() if one.requires_grad),
        "bytes": file.stat().st_size,
        "sha256": digest(file),
    }


def covered_share(work: Work, head: eagle3_head.Head) -> float | None:
    """Returns the share of held-out reply tokens that the head can draft; None without a reply."""
    rows = work.rows("held_out")
    tokens = torch.from_numpy(rows.ids[rows.is_reply].astype("int64"))
    return torch.isin(tokens, head.vocabulary.cpu()).double().mean().item() if len(tokens) else None


def digest(path: Path) -> str:
    """Returns the file's sha256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def create_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path, nargs="?", default=resolve(FETCHED + MODEL), help="default: %(default)s")
    parser.add_argument("out", type=Path, nargs="?", default=resolve(TRAINED + MODEL), help="default: %(default)s")
    parser.add_argument(
        "--questions",
        type=Path,
        required=True,
        help="folder with mt_bench_question.jsonl and spec_bench_question.jsonl, which no prompt may overlap with",
    )
    parser.add_argument("--minutes", type=float, default=8.5, help="of the first three stages, by their shares")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES, metavar="STAGE", help=", ".join(STAGES))
    parser.add_argument("--rows", type=int, default=2048, help="conversations written at once")
    parser.add_argument("--length", type=int, default=768, help="tokens of a row")
    parser.add_argument("--batch", type=int, default=16, help="rows of a training step")
    parser.add_argument("--draft-vocabulary", type=int, default=8192)
    parser.add_argument("--draft-layers", type=int, default=5)
    parser.add_argument("--head-rate", type=float, default=1e-3, help="learning rate")
    parser.add_argument("--draft-rate", type=float, default=1e-3)
    return parser


def main() -> None:
    """Runs the stages asked for."""
    options = create_parser().parse_args()
    work = Work(options)
    functions = {
        "generate": generate,
        "eagle3": train_eagle3,
        "draft": train_draft,
        "measure": measure,
        "complete": complete,
    }
    # Not cuDNN's kernels: they are compiled for every length.
    with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]):
        for stage in options.stages:
            began = time.perf_counter()
            functions[stage](work)
            print(f"{stage}: {time.perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
