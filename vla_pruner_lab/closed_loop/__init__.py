"""Success of pruned policies in simulated episodes: runs, records, tables and images."""
