"""A report: what a model is, what it was measured to do, and where it fails, as one HTML page or PDF."""

from mssg.report.blocks import Block, Code, Heading, Notes, Picture, Table, Text
from mssg.report.page import to_html
from mssg.report.paper import to_pdf
from mssg.report.sections import Material, build

__all__ = [
    "Block",
    "Code",
    "Heading",
    "Material",
    "Notes",
    "Picture",
    "Table",
    "Text",
    "build",
    "to_html",
    "to_pdf",
]
