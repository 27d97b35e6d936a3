"""The one house style for pages: a file that opens anywhere, off-line, and asks nothing of the network."""

from stages.reports.finding_cards import Card, cards, count_by_severity
from stages.reports.html_page import prose, write_page
from stages.reports.thumbnails import Album, Thumbnail, picture_file, thumbnail

__all__ = [
    "Album",
    "Card",
    "Thumbnail",
    "cards",
    "count_by_severity",
    "picture_file",
    "prose",
    "thumbnail",
    "write_page",
]
