"""Energy and cost of output tokens."""

import pytest

from specdec_bench.metrics.cost import cost, energy_use
from specdec_bench.records.energy import AcceleratorEnergy, Energy
from specdec_bench.records.summary import Cost, EnergyUse, Throughput
from tests.helpers.archive_samples import CONFIG, make_manifest


def throughput(output_tps: float | None, num_accelerators: int) -> Throughput:
    return Throughput(
        output_tps=output_tps,
        output_tps_steady=None,
        output_tps_per_gpu=None,
        output_tps_per_user=None,
        request_rate=None,
        output_tokens=400,
        duration_s=4.0,
        steady_duration_s=None,
        num_accelerators=num_accelerators,
    )


def test_energy_per_token_is_that_of_all_accelerators() -> None:
    two = tuple(
        AcceleratorEnergy(uuid=uuid, name="H100", energy_j=joules, idle_power_w=70, source="counter")
        for uuid, joules in (("a", 1200.0), ("b", 800.0))
    )
    found = energy_use(make_manifest(energy=Energy(accelerators=two, window_s=4.0)), 400)
    assert found == EnergyUse(energy_j=2000, energy_per_token_j=5, mean_power_w=500, idle_power_w=140, is_sampled=False)


def test_why_there_is_no_energy_is_kept() -> None:
    assert energy_use(make_manifest(), 400) == EnergyUse()
    missing = make_manifest(energy=Energy(missing="NVML: GPU is lost"))
    assert energy_use(missing, 400) == EnergyUse(missing="NVML: GPU is lost")


@pytest.mark.parametrize(
    ("price", "output_tps", "num_accelerators", "expected"),
    [
        (3.6, 1000.0, 2, 2.0),  # 7.2 an hour for 3.6 million tokens
        (0.0, 1000.0, 2, 0.0),
        (3.6, None, 2, None),
        (3.6, 1000.0, 0, None),
        (None, 1000.0, 2, None),
    ],
)
def test_a_million_tokens_cost_what_the_accelerators_cost_meanwhile(
    price: float | None, output_tps: float | None, num_accelerators: int, expected: float | None
) -> None:
    manifest = make_manifest(config={**CONFIG, "cost": {"per_accelerator_hour": price}})
    found = cost(manifest, throughput(output_tps, num_accelerators))
    assert found == Cost(per_accelerator_hour=price, cost_per_million_tokens=pytest.approx(expected))
