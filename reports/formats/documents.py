"""The documents that every comparison leaves behind."""

from __future__ import annotations

from ttsbench.reports.formats.format import Format, as_json
from ttsbench.reports.pages import comparison_page
from ttsbench.reports.tables import verdicts

HTML = Format("html", {comparison_page.FILE: lambda report, fail_on: comparison_page.page(report)})
MARKDOWN = Format("markdown", {"comparison.md": lambda report, fail_on: verdicts.to_markdown(report)})
JSON = Format("json", {"comparison.json": lambda report, fail_on: as_json(verdicts.to_data(report))})
FORMATS = (HTML, MARKDOWN, JSON)
