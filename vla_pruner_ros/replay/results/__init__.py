"""Results of a replay: comparisons, tables, pages and bags."""
