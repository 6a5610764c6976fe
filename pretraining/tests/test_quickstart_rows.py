"""The quickstart's rows in the package are those that the generator writes."""

from quickstart_rows import ROWS, SHIPPED, write_rows


def test_the_shipped_rows_are_the_generators(tmp_path):
    write_rows(tmp_path)
    for split in ROWS:
        assert (SHIPPED / f"{split}.jsonl").read_bytes() == (tmp_path / f"{split}.jsonl").read_bytes()
