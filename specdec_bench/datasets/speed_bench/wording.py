"""The sentences that NVIDIA's resolver puts around what it takes from a set.

They are NVIDIA's, and none is copied here: they are read, not run, out of the strings of its pinned file.
"""

import ast
from pathlib import Path

from specdec_bench.datasets.speed_bench.turns import Wording
from specdec_bench.errors import DatasetError

REVISION = "33bfa8b1fe47d1a86a1a421e24d84a6acd53aad2"
URL = (
    f"https://raw.githubusercontent.com/NVIDIA/Model-Optimizer/{REVISION}"
    "/examples/specdec_bench/specdec_bench/datasets/speed.py"
)
SHA256 = "c0b24776b7ceb7f5eba74b945a132c2a2c860121d08599ac791d0715b513602a"


def parse(path: Path) -> Wording:
    """Returns the sentences in a file that has NVIDIA's functions.

    Raises:
        DatasetError: the file has other functions or strings.
    """
    try:
        functions = {
            node.name: _strings(node)
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.FunctionDef)
        }
        select = functions["_generate_stackselect_prompt"]
        return Wording(
            stack_select=select[1],
            stack_select_question=select[2],
            stack_select_answers=select[4],
            stack_select_end="".join(select[5:8]),
            text_sort=functions["_generate_textsort_prompt"][0],
            text_sort_instead=functions["_generate_textsort_prompt"][1],
            writing=functions["_generate_writing_prompt"][4],
            padding=functions["_pad_or_truncate_prompt"][0],
            chat_rag=functions["_generate_chatrag_bench_prompt"][1],
            coser=functions["_generate_coser_prompt"][1],
            coser_no_motivation=functions["_generate_coser_prompt"][9],
            mmlu_pro=functions["_generate_mmlu_pro_prompt"][8],
            hle=functions["_generate_hle_prompt"][3],
        )
    except (SyntaxError, ValueError, LookupError) as error:
        raise DatasetError(f"{path}: not NVIDIA's datasets/speed.py ({type(error).__name__}: {error})") from None


def _strings(function: ast.FunctionDef) -> list[str]:
    """Returns the function's strings in the order in which they stand in the file."""
    found = [node for node in ast.walk(function) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [str(node.value) for node in sorted(found, key=lambda node: (node.lineno, node.col_offset))]
