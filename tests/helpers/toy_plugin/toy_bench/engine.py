"""The toy engine: one token a step, counting from 1."""

from specdec_bench.records.manifest import EngineDescription
from specdec_bench.records.request import Chunk


def create(config):
    return ToyAdapter()


class ToyAdapter:
    async def start(self):
        pass

    async def reset(self):
        pass

    async def stop(self):
        pass

    def counters(self):
        return None

    def read_back(self, sampling):
        return {name: getattr(sampling, name) for name in sampling.__struct_fields__}

    def describe(self):
        return EngineDescription(
            arguments={},
            resolved={},
            max_seq_len=None,
            num_accelerators=0,
            reproducible=True,
            synthetic="toy engine: it counts",
        )

    async def stream(self, request):
        most = request.sampling.max_new_tokens
        for token in range(1, most + 1):
            yield Chunk([token], 0, 0, finish_reason="length" if token == most else None)
