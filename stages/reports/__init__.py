"""Self-contained HTML pages and Markdown files that the stages write."""

from stages.reports.finding_cards import Card, count_by_severity, make_cards
from stages.reports.html_page import prose, write_page
from stages.reports.thumbnails import Album, Thumbnail, thumbnail, thumbnail_of_file

__all__ = [
    "Album",
    "Card",
    "Thumbnail",
    "count_by_severity",
    "make_cards",
    "thumbnail_of_file",
    "prose",
    "thumbnail",
    "write_page",
]
