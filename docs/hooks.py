"""An mkdocs hook: `\\|` in the code of a table is shown as a bar, as on GitHub."""

import re
from typing import Any


def on_page_content(html: str, **_: Any) -> str:
    """Returns the page's HTML with `\\|` in code replaced by `|`."""
    return re.sub(r"<code>[^<]*</code>", lambda code: code[0].replace("\\|", "|"), html)
