"""What the output tokens took in energy and money."""

from specdec_bench.records.manifest import Manifest
from specdec_bench.records.options import number_option
from specdec_bench.records.summary import Cost, EnergyUse, Throughput


def energy_use(manifest: Manifest, output_tokens: int) -> EnergyUse:
    """Returns the energy of the accelerators over the measured window; null where it was not measured.

    Args:
        manifest: of the run.
        output_tokens: of its finished requests.
    """
    energy = manifest.energy
    if energy is None or not energy.accelerators or not energy.window_s:
        return EnergyUse(missing=None if energy is None else energy.missing)
    total_j = sum(one.energy_j for one in energy.accelerators)
    return EnergyUse(
        energy_j=total_j,
        energy_per_token_j=total_j / output_tokens if output_tokens else None,
        mean_power_w=total_j / energy.window_s,
        idle_power_w=sum(one.idle_power_w for one in energy.accelerators),
        is_sampled=any(one.source != "counter" for one in energy.accelerators),
    )


def cost(manifest: Manifest, throughput: Throughput) -> Cost:
    """Returns what a million output tokens cost; null unless the price is given and the engine uses accelerators."""
    given = number_option(manifest.config, "cost", "per_accelerator_hour")
    rate, num = throughput.output_tps, throughput.num_accelerators
    if given is None or not rate or not num:
        return Cost(per_accelerator_hour=given)
    return Cost(per_accelerator_hour=given, cost_per_million_tokens=given * num / (rate * 3600) * 1e6)
