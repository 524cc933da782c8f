"""Settings that make an engine accept drafts as often as was measured."""

import json

from specdec_bench.compare.exports.measured import MeasuredAcceptance
from specdec_bench.records.json_types import Json
from specdec_bench.records.options import option


def vllm_settings(measured: MeasuredAcceptance) -> str:
    """Returns what is added to vLLM's `--speculative-config`, as JSON.

    `synthetic_acceptance_rates[i-1]` is joint: the chance that the first i drafts of a step are all accepted. vLLM
    divides each by the one before it to get conditional rates. It takes exactly one for each speculative token, and
    they must not rise. The acceptance length that they make is 1 + their sum, with the bonus token.

    Source: vLLM 0.32, `config/speculative.py` and `unconditional_to_conditional_rates` in `v1/spec_decode/utils.py`.

    Raises:
        ArchiveInputError: the acceptance at a position is unknown.
    """
    rates = measured.joint_rates()
    settings: dict[str, Json] = {
        "num_speculative_tokens": measured.draft_length,
        "rejection_sample_method": "synthetic",
        "synthetic_acceptance_rates": list(rates),
    }
    return json.dumps(settings, indent=2, allow_nan=False) + "\n"


def sglang_settings(measured: MeasuredAcceptance) -> str:
    """Returns the environment variables that SGLang's server is started with, one a line.

    `SGLANG_SIMULATE_ACC_LEN` counts the bonus token: SGLang accepts one draft less. `match-expected` draws the integer
    below or above it in each step, for all requests of the batch alike. `real-draft-token` emits the drafts themselves,
    and takes chains only; `fixed` emits one and the same token.

    Source: SGLang 0.5.20, `sample_simulated_acc_len` and `generate_simulated_accept_index` in
    `srt/speculative/spec_utils.py`.

    Raises:
        ArchiveInputError: the acceptance at a position is unknown.
    """
    is_chain = (option(measured.manifest.config, "spec", "topk") or 1) == 1
    variables = {
        "SGLANG_SIMULATE_ACC_LEN": repr(1 + sum(measured.joint_rates())),
        "SGLANG_SIMULATE_ACC_METHOD": "match-expected",
        "SGLANG_SIMULATE_ACC_TOKEN_MODE": "real-draft-token" if is_chain else "fixed",
    }
    return "".join(f"{name}={value}\n" for name, value in variables.items())
