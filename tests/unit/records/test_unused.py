"""What of a source is not used: counted, numbered in bounded memory, and told in a line."""

from specdec_bench.records import unused
from specdec_bench.records.unused import Unused, describe, shorten


def test_rows_are_ranges() -> None:
    found = Unused()
    for row in (3, 8, 9, 10, 12):
        found.add_row("r", row)
    assert found.as_tree()["rows"] == {"r": {"num_rows": 5, "rows": "3, 8-10, 12"}}
    assert found.num_rows == 5


def test_a_row_counts_once_for_a_reason() -> None:
    found = Unused()
    for row in (1, 1, 2):
        found.add_part("p", row, "x")
    assert found.as_tree()["parts"] == {"p": {"num_rows": 2, "rows": "1-2", "examples": ["x"]}}
    assert found.num_rows == 0, "it is used"


def test_fields_that_nothing_reads_are_noted_by_name() -> None:
    found = Unused()
    found.add_fields(["id", "source", "x\x1b"], ["id"], 1)
    found.add_fields(["id", "source"], ["id"], 2)
    tree = found.as_tree()
    assert tree["fields"] == {"source": {"num_rows": 2, "rows": "1-2"}, "x\x1b": {"num_rows": 1, "rows": "1"}}
    assert describe(tree) == [r"fields that nothing reads: 'source' (2 rows: 1-2); 'x\x1b' (row 1)"]


def test_what_is_kept_is_bounded() -> None:
    found = Unused()
    for row in range(1, 3 * unused.MAX_RANGES, 2):
        found.add_row("every second", row, f"example {row}")
        found.add_fields([f"field {row}"], [], row)
    tree = found.as_tree()
    every_second = tree["rows"]["every second"]
    assert every_second["num_rows"] == 1.5 * unused.MAX_RANGES
    assert every_second["rows"].split(", ")[-2:] == [str(2 * unused.MAX_RANGES - 1), "..."]
    assert len(every_second["examples"]) == unused.MAX_EXAMPLES
    assert len(tree["fields"]) == unused.MAX_FIELDS + 1
    assert tree["fields"][unused.OTHER_FIELDS]["num_rows"] == 1.5 * unused.MAX_RANGES - unused.MAX_FIELDS


def test_a_line_has_the_first_rows() -> None:
    found = Unused()
    for row in (1, 3, 5, 7, 9, 11, 13):
        found.add_row("without a message", row)
    found.add_row("with an unknown speaker", 14, "'Narrator'")
    found.add_part("begins with a reply", 2)
    tree = found.as_tree()
    lines = [
        "8 ROWS NOT USED: with an unknown speaker, such as 'Narrator' (row 14); without a message (7 rows: 1, 3, 5, 7, "
        "9, ...)",
        "ROWS NOT SENT AS THEY ARE: begins with a reply (row 2)",
    ]
    assert describe(tree) == lines
    assert shorten(shorten(tree)) == shorten(tree), "once is enough"
    assert describe(shorten(tree)) == lines
    assert describe(tree, ["parts"]) == lines[1:]


def test_files_are_told_by_name() -> None:
    found = Unused()
    found.add_file("train.csv")
    found.add_file("x\x1b.tsv")
    assert describe(shorten(found.as_tree())) == [r"FILES NOT READ: 'train.csv'; 'x\x1b.tsv'"]


def test_where_all_is_used_there_is_nothing_to_say() -> None:
    assert describe(Unused().as_tree()) == describe({}) == []


def test_what_a_prepared_file_says_is_taken_over() -> None:
    first, second = Unused(), Unused()
    first.add_row("r", 5)
    second.inherit(first.as_tree())
    assert second.as_tree() == first.as_tree()
    assert second.num_rows == 1
