"""The toy dataset: yields a number and a prompt for each row."""

from specdec_bench.records.request import Prompt


def load(config, unused):
    for number in range(1, config.num_people + 1):
        yield number, Prompt(prompt_id=f"person-{number}", category="greetings", turns=(f"Hello, number {number}!",))
