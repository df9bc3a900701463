"""From the outputs of a replay to comparisons, tables, pages and bags."""
