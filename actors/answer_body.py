"""The body of an answer over REST, of which nobody may make us hold more than we wish."""

import aiohttp


class TooLarge(Exception):
    """The message says how much would have been taken."""


async def bounded_body(answer: aiohttp.ClientResponse, most_bytes: int) -> bytes:
    """Raises `TooLarge`, and what aiohttp raises."""
    body = bytearray()
    async for piece in answer.content.iter_chunked(1 << 16):
        body += piece
        if len(body) > most_bytes:
            raise TooLarge(f"an answer of more than {most_bytes >> 20} MB")
    return bytes(body)
