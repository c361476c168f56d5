"""Text from elsewhere, escaped for the place where it leaves. Every writer uses this module and no other way.

What a record or a scenario holds may have been written by anybody: a line break in a name must not begin a workflow
command in a CI log, and no text may move a cursor, run as a formula or become a link.
"""

from __future__ import annotations

import re
from typing import Any

# What moves a terminal's cursor, colours it, rings its bell or turns the direction of reading; we end lines ourselves.
CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
# What a CI runner takes for a command: GitHub's at the start of a line, which wrapping can make of any word, and an
# older form anywhere. By name: `at::native::` in the name of a kernel is none.
COMMANDS = (
    "add-mask", "add-matcher", "add-path", "debug", "echo", "endgroup", "error", "group", "internal-set-repo-path",
    "notice", "remove-matcher", "save-state", "set-env", "set-output", "stop-commands", "warning",
)  # fmt: skip
WORKFLOW_COMMAND = re.compile(rf":(?=:({'|'.join(COMMANDS)})(\s[^:]*)?::)|#(?=#(\[|vso\[))", re.IGNORECASE)
NOT_IN_XML = re.compile(r"[^\x20-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]")
MARKUP = re.compile(r"[\\`*_|\[\]<>#~$&]")
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
# Takes no room, and keeps GitHub from making a link of what stands before it.
NO_LINK = "\N{ZERO WIDTH SPACE}"


def printable(text: str) -> str:
    """With control characters spelled out, so that a terminal or a CI log shows them and obeys none."""
    if text.isprintable() and "::" not in text and "##" not in text:
        return text
    text = CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
    return WORKFLOW_COMMAND.sub(r"\g<0>\\", text)


def one_line(text: str) -> str:
    return printable(text).replace("\n", "\\n")


def in_markdown(text: str) -> str:
    """Nothing that a user typed becomes markup, not even a formula or another letter."""
    return printable(MARKUP.sub(r"\\\g<0>", re.sub(r"[\r\n]+", " ", text)))


def in_cell(value: Any) -> Any:
    """A value of a CSV: one line; a text that a spreadsheet would compute begins with an apostrophe."""
    if not isinstance(value, str):
        return value
    text = one_line(value)
    return f"'{text}" if value.startswith(FORMULA_STARTS) else text


def in_xml(text: str) -> str:
    """One line, without the characters that no XML document may hold, not even escaped."""
    return NOT_IN_XML.sub("\N{REPLACEMENT CHARACTER}", one_line(text))


def in_command(text: str) -> str:
    """The data of a GitHub workflow command: one line, and nothing in it another command."""
    return one_line(text).replace("%", "%25")


def in_command_property(text: str) -> str:
    return in_command(text).replace(":", "%3A").replace(",", "%2C")


def without_links(text: str) -> str:
    """Nobody is called and nothing is linked by what a record says."""
    return text.replace("@", f"@{NO_LINK}").replace("://", f":{NO_LINK}//")
