"""Interactive page of the results: Python gathers the content, templates/ holds its look."""

from vla_pruner_lab.closed_loop.web.results_page import PAGE, page_content, write_results_page

__all__ = ["PAGE", "page_content", "write_results_page"]
