"""aa.json: rates in tokens of one vocabulary, so that models with different ones compare."""

from specdec_bench.records.request import Record
from specdec_bench.records.summary import Distribution


class AATiming(Record, frozen=True, kw_only=True):
    """Beside the summary's rates, which are in the model's own tokens; None where undefined."""

    run_id: str
    encoding: str
    num_requests: int
    """Finished requests of the measured window whose text is archived: all metrics are of these."""
    num_without_speed: int
    """Those of them that came in one chunk, or of which the text of the first chunk is not known."""
    output_tokens: int
    """The model's own, of the same requests."""
    aa_tokens: int
    aa_tokens_per_token: float | None
    aa_output_tps: float | None
    aa_output_tps_per_user: float | None
    aa_output_tps_per_request: Distribution
    definitions: dict[str, str]
    """The formula of each metric."""
