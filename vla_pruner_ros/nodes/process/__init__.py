"""A node as a process: its terminal, its log, its memory."""
