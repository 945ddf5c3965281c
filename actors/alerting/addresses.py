"""Which addresses an alert may be sent to. Whoever may make alerts must not reach through them what only this machine
or its network can reach.
"""

import ipaddress
import re
from typing import Final

from yarl import URL

_LONGEST_URL: Final = 2000
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
#: One plain address, nothing that a header or a mail server could read as more.
_MAILBOX: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


def is_public(address: str) -> bool:
    """Whether an IP address is one of the Internet's: not of this machine, its network or a group."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        # What stands for an IPv4 address leads there.
        inner = ip.ipv4_mapped or ip.sixtofour
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast


def checked_url(text: str, private: bool) -> URL:
    """The URL to post to; ValueError, without the text, which may be a secret. With `private`, addresses that are not
    public are good too. What a name stands for is seen when it is connected to."""
    if len(text) > _LONGEST_URL or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f"expected a URL of at most {_LONGEST_URL} plain characters")
    try:
        url = URL(text)
    except ValueError:
        raise ValueError("expected a URL like https://host/path") from None
    host = (url.host or "").rstrip(".")
    # What ends in a number is an address; there are ways to write one that only some can read.
    odd = host.rpartition(".")[2][:1].isdigit() and not _is_ip(url.host or "")
    if url.scheme not in ("http", "https") or not host or odd:
        raise ValueError("expected a URL like https://host/path")
    if url.user is not None or url.password is not None:
        raise ValueError("a user or a password in a URL is not sent; put a token into its path or query")
    if not private and _is_here(host):
        raise ValueError(f"{host} is not a public address (setting alerts.allow_private_targets)")
    return url


def checked_mailbox(text: str) -> str:
    """An e-mail address; ValueError for anything else."""
    if not _MAILBOX.fullmatch(text) or ".." in text:
        raise ValueError("expected an address like name@example.org")
    return text


def _is_here(host: str) -> bool:
    """Whether that is seen without looking the name up."""
    return not is_public(host) if _is_ip(host) else f".{host.lower()}".endswith(".localhost")


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
