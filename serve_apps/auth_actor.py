"""What applications ask of the accounts actor: each question bounded in time, what goes wrong said as it knows it."""

import asyncio
from typing import Any, Final

import ray

from actors.account_book import AccountError
from actors.accounts import NEWS_S, Known
from actors.directory import ACCOUNTS
from serve_apps.asked_actors import actor
from serve_apps.shared_answer import NoAnswer

ANSWER_S: Final = 8.0


async def ask_accounts(method: str, *arguments: Any) -> Any:
    """See `serve_apps.auth.AskAccounts`."""
    try:
        return await asyncio.wait_for(getattr(actor(ACCOUNTS), method).remote(*arguments), ANSWER_S)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, AccountError):
            raise error.cause from None
        raise
    except (TimeoutError, ray.exceptions.RayError, ValueError):
        raise NoAnswer("Who knows the users does not answer now; ask again in a moment.") from None


async def known(version: int | None) -> Known | None:
    """See `Accounts.known`."""
    said: Known | None = await asyncio.wait_for(actor(ACCOUNTS).known.remote(version), NEWS_S + ANSWER_S)
    return said
