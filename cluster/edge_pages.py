"""What the front door does for reports, as rules of HAProxy.

Its cache keeps answers apart by their address, and by none of the headers in which a reader says a language: an answer
with `Vary: Accept-Language, Cookie` is not kept at all. So the door decides as the application would
(`serve_apps.reports_language`) and says it in the address: for that one there is one answer, which is kept, and whoever
asked without a language is told Vary on the way out. Parameters that no page has are left out, or there would be as
many answers as somebody likes to ask for.
"""

from typing import Final

from serve_apps.reports_publishing import KEY_HEADER, MOST_BODY_BYTES, REPORTS

_PUBLISHED: Final = f"METH_POST {{ path {REPORTS} }}"
_SHOWN: Final = ("Authorization", "X-API-Key", KEY_HEADER.decode())
_TOO_LARGE: Final = (
    """status 413 content-type application/problem+json string '{"title":"Content too large","status":413,"""
    f""""detail":"A report says its size (Content-Length) and has {MOST_BODY_BYTES} bytes at most."}}'"""
)

#: A report may have more bytes than a body that waits at the door until it is whole, from somebody who shows something.
BODY_RULES: Final = "\n".join(
    [
        *(
            f"    http-request set-var(txn.publishes) bool(true) if {_PUBLISHED} {{ req.hdr({name}) -m found }}"
            for name in _SHOWN
        ),
        f"    http-request return {_TOO_LARGE} if {{ var(txn.publishes) -m bool }}"
        f" !{{ req.hdr_val(content-length) le {MOST_BODY_BYTES} }}",
    ]
)

_NEGOTIATED: Final = "{ var(txn.negotiated) -m bool }"
_UNKNOWN: Final = "!{ var(txn.language) -m found }"
#: What addresses of pages may say besides their language.
_PARAMETERS: Final = ("page", "id", "token")

#: What says `page` of a request for one.
PATH_RULES: Final = "\n".join(
    f"    {rule}"
    for rule in (
        "http-request replace-path ^/api/crypto_reports/([^/]+)/(sandboxed|shadow_dom)$ /crypto_report/\\1/frame"
        " if { path_beg /api/crypto_reports/ }",
        "acl page path /crypto_report /crypto_reports_list",
        "acl page path_beg /crypto_report/ /pdf-template/",
    )
)

#: Of pages alone.
PAGE_RULES: Final = "\n".join(
    f"    {rule}"
    for rule in (
        "http-request set-var(txn.language) url_param(lang) if { url_param(lang) vi en }",
        f"http-request set-var(txn.negotiated) bool(true) if {_UNKNOWN}",
        f"http-request set-var(txn.language) req.cook(preferred_language) if {_NEGOTIATED}"
        " { req.cook(preferred_language) vi en }",
        f"http-request set-var(txn.language) req.fhdr(Accept-Language),lower,language(vi;en,vi) if {_NEGOTIATED}"
        f" {_UNKNOWN}",
        f"http-request set-var(txn.language) str(vi) if {_NEGOTIATED} {_UNKNOWN}",
        *(
            f"http-request set-var(txn.said_{name}) url_param({name}) if {{ url_param({name}) -m found }}"
            for name in _PARAMETERS
        ),
        "http-request set-query lang=%[var(txn.language)]",
        *(
            f"http-request set-query %[query]&{name}=%[var(txn.said_{name})] if {{ var(txn.said_{name}) -m found }}"
            for name in _PARAMETERS
        ),
        f'http-after-response add-header Vary "Accept-Language, Cookie" if {_NEGOTIATED}',
    )
)
