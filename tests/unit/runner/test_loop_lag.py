import asyncio
import time

from specdec_bench.runner.loop_lag import PERIOD_S, LoopLateness


def test_a_blocked_loop_is_late_by_as_much() -> None:
    async def blocked_once() -> LoopLateness:
        with LoopLateness() as lateness:
            await asyncio.sleep(5 * PERIOD_S)
            time.sleep(0.2)
            await asyncio.sleep(5 * PERIOD_S)
        return lateness

    result = asyncio.run(blocked_once()).result()
    assert result is not None
    # The wake-up due within the first 100 ms of the 200 waited for the rest.
    assert result.max_ms >= 200 - 1e3 * PERIOD_S
    assert result.p50_ms <= result.p99_ms <= result.max_ms
    assert result.count >= 2


def test_a_window_without_a_wake_up_has_no_lateness() -> None:
    async def nothing() -> LoopLateness:
        with LoopLateness() as lateness:
            pass
        return lateness

    assert asyncio.run(nothing()).result() is None


def test_quantiles() -> None:
    lateness = LoopLateness()
    lateness._late_s.extend(number / 1e3 for number in range(100))
    result = lateness.result()
    assert result is not None
    assert (result.count, result.p50_ms, result.p99_ms, result.max_ms) == (100, 50, 99, 99)
