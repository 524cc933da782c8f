"""What names a run's load, in archives of now and of before."""

import pytest

from specdec_bench.records.manifest import LoadLabel, amount, label_of_load
from tests.helpers.archive_samples import CONFIG, make_manifest


def test_the_manifest_says_what_its_load_is_called() -> None:
    label = LoadLabel(axis="rate", value=2.5, title="conversations per second", unit="a second", max_in_flight=None)
    assert label_of_load(make_manifest(load=label)) is label


@pytest.mark.parametrize("load", [{"name": "closed", "concurrency": 2}, {"concurrency": 2}])
def test_before_there_were_others_a_load_was_closed(load: dict[str, object]) -> None:
    label = label_of_load(make_manifest(config={**CONFIG, "load": load}))
    assert (label.axis, label.value, label.max_in_flight, label.text) == ("concurrency", 2, 2, "2 in flight")


@pytest.mark.parametrize("config", [{}, {"load": None}, {"load": {}}])
def test_an_archive_that_does_not_say_has_no_amount(config: dict[str, object]) -> None:
    label = label_of_load(make_manifest(config=config))
    assert (label.axis, label.value, label.max_in_flight) == ("concurrency", None, None)


def test_whole_numbers_are_written_as_such() -> None:
    assert [amount(value) for value in (16, 20.0, 2.5, 65_536, 0.001)] == ["16", "20", "2.5", "65536", "0.001"]
