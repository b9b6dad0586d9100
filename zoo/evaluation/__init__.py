"""Tasks, decoding, parsing, metrics, statistics and the report."""
