"""A report as one HTML file: pictures inside, no script, nothing fetched."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Sequence

from mssg.report.elements import (
    COLOURS,
    INK,
    LINE,
    SOFT,
    WARN,
    Block,
    Code,
    FigureBlock,
    Heading,
    NewPage,
    Notes,
    TableBlock,
    Text,
    Verdict,
    left_out_of_paper,
)

PALETTE = f"--ink: {INK}; --soft: {SOFT}; --line: {LINE}; --warn: {WARN}; --tint: #f5f7f9;"
STYLE = (
    f"\n:root {{ color-scheme: light; {PALETTE} }}"
    + """
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 2.5rem 1.5rem 5rem; color: var(--ink); background: #fff;
  font: 16px/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.3rem; margin: 2.6rem 0 .7rem; padding-top: .6rem; border-top: 2px solid var(--ink); }
h3 { font-size: 1.05rem; margin: 1.8rem 0 .4rem; }
p { margin: .5rem 0 .8rem; max-width: 46rem; }
nav { columns: 2; font-size: .92rem; margin: 1.2rem 0 0; max-width: 46rem; }
nav a { display: block; color: #1d4ed8; text-decoration: none; padding: .08rem 0; }
.wide { overflow-x: auto; margin: .6rem 0 1.3rem; }
table { border-collapse: collapse; font-size: .82rem; line-height: 1.4; font-variant-numeric: tabular-nums;
  }
caption, figcaption { text-align: left; color: var(--soft); font-size: .87rem; padding: 0 0 .35rem;
  max-width: 46rem; }
th { text-align: right; font-weight: 600; border-bottom: 1.5px solid var(--ink); padding: .3rem .6rem .3rem
  0; vertical-align: bottom; }
td { text-align: right; border-bottom: 1px solid var(--line); padding: .25rem .6rem .25rem 0;
  vertical-align: top; white-space: nowrap; }
th.l, td.l { text-align: left; white-space: normal; }
td.l:first-child { min-width: 8.5rem; }
tr:nth-child(even) td { background: var(--tint); }
figure { margin: 1rem 0 1.6rem; }
figure img { max-width: 100%; height: auto; display: block; }
figcaption { padding: .4rem 0 0; }
pre { background: var(--tint); border: 1px solid var(--line); border-radius: 4px; padding: .8rem 1rem;
  font-size: .84rem; white-space: pre-wrap; overflow-wrap: anywhere; }
ul { margin: .4rem 0 1rem; padding-left: 1.2rem; max-width: 46rem; }
li { margin: .25rem 0; }
.warn { border-left: 4px solid var(--warn); background: #fff7ed; padding: .5rem 1rem .5rem 1.6rem; }
.small { color: var(--soft); font-size: .82rem; }
.verdict { border-left: 6px solid; padding: .1rem 0 .1rem .8rem; margin: .55rem 0; max-width: 52rem; }
.verdict p { margin: 0; max-width: none; font-size: .92rem; line-height: 1.45; }
.verdict .by { color: var(--soft); font-size: .82rem; }
details { margin: .6rem 0 1.2rem; }
summary { cursor: pointer; color: #1d4ed8; font-size: .92rem; }
@media print { body { max-width: none; padding: 0; font-size: 10pt; } nav, details { display: none; } h2 {
  break-after: avoid; } figure, tr, .verdict { break-inside: avoid; } .page { break-before: page; } }
@media screen { .paper { display: none; } }
"""
)


def to_html(blocks: Sequence[Block], title: str) -> str:
    """The page.

    Args:
        blocks: Its content; the first heading of level 1 is its title.
        title: For the window.

    Returns:
        A complete HTML document.
    """
    sections = [b for b in blocks if isinstance(b, Heading) and b.level == 2]
    numbers = {id(b): f"s{i}" for i, b in enumerate(sections)}
    links = "".join(f'<a href="#{numbers[id(b)]}">{html.escape(b.text)}</a>' for b in sections)
    parts = []
    for block in blocks:
        if any(block is section for section in sections[1:2]):  # what comes first is to be read first
            parts.append(f"<nav>{links}</nav>")
        parts.append(_block(block, numbers.get(id(block), "")))
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width,'
        f' initial-scale=1"><title>{html.escape(title)}</title>'
    )
    body = "\n".join(parts)
    return (
        "<!DOCTYPE html>\n<html"
        f' lang="en"><head>{head}<style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n'
    )


def _prose(text: str) -> str:
    """A sentence; what stands between backticks is code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def _block(block: Block, anchor: str) -> str:
    if isinstance(block, Heading):
        mark = f' id="{anchor}"' if anchor else ""
        return f"<h{block.level}{mark}>{html.escape(block.text)}</h{block.level}>"
    if isinstance(block, Text):
        return f"<p{' class=small' if block.small else ''}>{_prose(block.text)}</p>"
    if isinstance(block, Verdict):
        by = f'<p class="by">Measured by: {html.escape(block.instrument)}</p>' if block.instrument else ""
        return (
            f'<div class="verdict" style="border-color:{COLOURS[block.answer]}">'
            f"<p><b>{html.escape(block.title)}</b></p><p>{_prose(block.text)}</p>{by}</div>"
        )
    if isinstance(block, NewPage):
        return '<div class="page"></div>'
    if isinstance(block, Notes):
        items = "".join(f"<li>{_prose(item)}</li>" for item in block.items)
        return f"<ul{' class=warn' if block.warn else ''}>{items}</ul>"
    if isinstance(block, Code):
        return f"<pre>{html.escape(block.text)}</pre>"
    if isinstance(block, TableBlock):
        return _table(block)
    return _picture(block)


def _table(block: TableBlock) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        marked = [
            f"<{tag}{' class=l' if i < block.left else ''}>{html.escape(c)}</{tag}>"
            for i, c in enumerate(cells)
        ]
        return f"<tr>{''.join(marked)}</tr>"

    caption = f"<caption>{html.escape(block.caption)}</caption>" if block.caption and not block.folded else ""
    rows = "".join(line(row, "td") for row in block.rows)
    text = (
        "<div"
        f' class="wide"><table>{caption}<thead>{line(block.header, "th")}</thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )
    if not block.folded:
        return text
    left_out = f'<p class="paper">{html.escape(left_out_of_paper(block))}</p>'
    summary = f"{html.escape(block.caption)} ({len(block.rows)} rows)"
    return f"{left_out}<details><summary>{summary}</summary>{text}</details>"


def _picture(block: FigureBlock) -> str:
    buffer = io.BytesIO()
    block.draw().savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    data = base64.b64encode(smaller(buffer.getvalue())).decode()
    caption = html.escape(block.caption)
    style = f' style="width:{100 * block.width:.0f}%"' if block.width < 1 else ""
    return (
        f'<figure><img{style} alt="{caption}"'
        f' src="data:image/png;base64,{data}"><figcaption>{caption}</figcaption></figure>'
    )


def smaller(png: bytes) -> bytes:
    """The same picture in 256 colours where that is smaller: a page stays light."""
    from PIL import Image

    with Image.open(io.BytesIO(png)) as picture:
        buffer = io.BytesIO()
        picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(
            buffer, format="PNG", optimize=True
        )
    return min(png, buffer.getvalue(), key=len)
