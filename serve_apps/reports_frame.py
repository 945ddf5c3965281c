"""What a report shows, in a document of its own: it runs in a sandboxed frame, whose origin is nobody's, and may ask
nobody for anything. A link to it is good for one version of one report, for a while.

The frame is the fence: HTML is sanitised besides (`serve_apps.reports_html`), CSS and scripts of a report are as they
were given, and reach nothing but their own document.
"""

import base64
import hashlib
import hmac
import re
from pathlib import Path
from typing import Final

from markupsafe import Markup

from serve_apps.asgi import BadRequest

_TOKEN: Final = re.compile(r"(\d{1,9})-(\d{1,12})-([0-9a-f]{64})")
_STYLE_END: Final = re.compile(r"</(?=style)", re.IGNORECASE)
_SCRIPT_END: Final = re.compile(r"<(?=/script|script|!--)", re.IGNORECASE)
TEMPLATES: Final = Path(__file__).parent / "templates"
#: Tells the page around it how tall it is, and is told the theme.
RUNTIME: Final = (TEMPLATES / "frame.js").read_text(encoding="utf-8")
PRINTING: Final = (TEMPLATES / "print.js").read_text(encoding="utf-8")


def frame_secret(token: str) -> bytes:
    """What links to frames are signed with, from the instance's own token: the same in all replicas."""
    return hmac.digest(token.encode(), b"rayfeed frames of reports", "sha256")


def sign(secret: bytes, report_id: int, version: int, now_s: float, lasts_s: int) -> str:
    """A token for that version of a report, good for `lasts_s` to twice as long: who asks in the same while gets the
    same one, so pages that hold it do not change all the time."""
    expires = (int(now_s) // lasts_s + 2) * lasts_s
    return f"{version}-{expires}-{_mac(secret, report_id, version, expires)}"


def check(secret: bytes, report_id: int, token: str, now_s: float) -> int:
    """The version that the token is for; `BadRequest` (403) for one that is not for this report, or no longer."""
    found = _TOKEN.fullmatch(token)
    if found is None:
        raise BadRequest(403, "This needs the token that the page of the report has.")
    version, expires = int(found[1]), int(found[2])
    if not hmac.compare_digest(found[3], _mac(secret, report_id, version, expires)):
        raise BadRequest(403, "This token is not for this report.")
    if expires <= now_s:
        raise BadRequest(403, "This token has expired: load the page of the report again.")
    return version


def style(css: str) -> Markup:
    """CSS as it may stand in a `<style>` element, which it cannot end."""
    return Markup(_STYLE_END.sub(r"<\\/", css))  # noqa: S704 - see above


def script(js: str) -> Markup:
    """A script as it may stand in a `<script>` element: the same script, which cannot end it."""
    text = js.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "�")
    return Markup(_SCRIPT_END.sub(r"\\x3c", text))  # noqa: S704 - see above


def policy(scripts: list[Markup], allowed: str = "allow-scripts") -> str:
    """The Content-Security-Policy of a document that runs these scripts, shows what it holds, and nothing else."""
    hashes = " ".join(f"'sha256-{_digest(one)}'" for one in scripts) or "'none'"
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; font-src data:; "
        f"connect-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'; "
        f"sandbox {allowed}"
    )


def _digest(one: Markup) -> str:
    return base64.b64encode(hashlib.sha256(str(one).encode()).digest()).decode()


def _mac(secret: bytes, report_id: int, version: int, expires: int) -> str:
    return hmac.digest(secret, f"{report_id}:{version}:{expires}".encode(), "sha256").hex()
