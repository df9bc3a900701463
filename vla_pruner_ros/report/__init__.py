"""Building blocks of self-contained HTML reports: no network, no dependency beyond Pillow.

html = page("Title", [section("Results", table(["a", "b"], [[1, 2]]))])
write_page(path, html)
"""

from vla_pruner_ros.report.histograms import histogram_svg
from vla_pruner_ros.report.images import data_uri, encode_jpeg
from vla_pruner_ros.report.kept_player import KeptFrame, KeptSetting, kept_player
from vla_pruner_ros.report.page import Section, page, section, write_page
from vla_pruner_ros.report.parts import (
    code,
    columns,
    figure,
    image,
    legend,
    note,
    table,
    text,
    tiles,
)
from vla_pruner_ros.report.plots import FULL_WIDTH, HALF_WIDTH, Series, line_plot_svg
from vla_pruner_ros.report.run_info import run_info
from vla_pruner_ros.report.slider import animation_slider

__all__ = [
    "FULL_WIDTH",
    "HALF_WIDTH",
    "KeptFrame",
    "KeptSetting",
    "Section",
    "Series",
    "animation_slider",
    "code",
    "columns",
    "data_uri",
    "encode_jpeg",
    "figure",
    "histogram_svg",
    "image",
    "kept_player",
    "legend",
    "line_plot_svg",
    "note",
    "page",
    "run_info",
    "section",
    "table",
    "text",
    "tiles",
    "write_page",
]
