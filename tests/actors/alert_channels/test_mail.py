"""E-mail against a mail server on loopback."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from actors.alert_channels.mail import Mail
from actors.alerting.messages import as_mail
from config.settings import SmtpSettings
from storage.alert_log import Targets
from tests.actors.alert_channels.firings import firing
from tests.actors.alert_channels.receivers import MailServer
from tests.actors.alerting.tables import NOW
from tests.servers import free_port

ME = Targets(email="me@example.org")


@pytest.fixture
async def server() -> AsyncIterator[MailServer]:
    async with MailServer() as running:
        yield running


def settings(port: int, **more: Any) -> SmtpSettings:
    known = {"host": "127.0.0.1", "port": port, "starttls": False, "from_address": "alerts@rayfeed.example"}
    return SmtpSettings(**{**known, **more})


async def sent(server: MailServer, **more: Any) -> Any:
    mail = Mail(settings(server.port, **more), threads=2)
    try:
        return await mail.send(ME, firing(note="sell"))
    finally:
        await mail.close()


async def test_the_mail_says_what_fired_and_repetitions_have_the_same_id(server: MailServer) -> None:
    for _ in range(2):
        assert (await sent(server)).status == "delivered"
    first, again = server.mails
    assert server.recipients == ["<me@example.org>"] * 2
    assert (first["From"], first["To"]) == ("alerts@rayfeed.example", "me@example.org")
    assert first["Subject"] == "rayfeed: binance BTCUSDT: price 101.5 is above 100"
    assert first["Message-ID"] == again["Message-ID"] == f"<3f0c.{NOW}@rayfeed.example>"
    lines = first.get_content().splitlines()
    assert lines[:2] == ["binance BTCUSDT: price 101.5 is above 100", "sell"]
    assert f"delivery_id: 3f0c:{NOW}" in lines


async def test_it_says_who_it_is_when_the_settings_have_a_user(server: MailServer) -> None:
    assert (await sent(server, user="me", password="a secret")).status == "delivered"
    assert any(command.startswith("AUTH PLAIN") for command in server.commands)


@pytest.mark.parametrize(
    ("says", "status", "error"),
    [
        ({"RCPT": ["550 no such user"]}, "final", "the mail server answered 550 no such user"),
        ({"RCPT": ["451 later"]}, "passing", "the mail server answered 451 later"),
        ({"MAIL": ["552 too much"]}, "final", "the mail server answered 552 too much"),
        ({"DATA": ["421 going down"]}, "passing", "the mail server answered 421 going down"),
        ({"DATA": ["554 spam"]}, "final", "the mail server answered 554 spam"),
    ],
)
async def test_what_a_refusal_means(server: MailServer, says: dict[str, list[str]], status: str, error: str) -> None:
    server.says = says
    outcome = await sent(server)
    assert (outcome.status, outcome.error) == (status, error)
    assert server.mails == []


async def test_what_was_taken_is_not_sent_again_whatever_the_goodbye(server: MailServer) -> None:
    server.says = {"QUIT": ["421 go away"]}
    assert (await sent(server)).status == "delivered"


async def test_a_wrong_password_is_final_and_not_shown(server: MailServer) -> None:
    server.says = {"AUTH": ["535 bad credentials", "535 bad credentials"]}
    outcome = await sent(server, user="me", password="hunter2")
    assert (outcome.status, outcome.code) == ("final", 535)
    assert "hunter2" not in outcome.error


@pytest.mark.parametrize("says", [{}, {"EHLO": ["250-here\r\n250 AUTH CRAM-MD5"], "AUTH": ["334 bm90IG5vdw=="]}])
async def test_a_password_that_cannot_be_sent_is_final_and_not_shown(
    server: MailServer, says: dict[str, list[str]]
) -> None:
    server.says = says
    outcome = await sent(server, user="me", password="hünter2")
    assert (outcome.status, outcome.code) == ("final", None)
    assert "ASCII" in outcome.error
    assert "nter2" not in outcome.error


async def test_a_server_that_asks_for_nonsense_may_pass(server: MailServer) -> None:
    server.says = {"EHLO": ["250-here\r\n250 AUTH CRAM-MD5"], "AUTH": ["334 x"]}
    assert (await sent(server, user="me", password="hunter2")).status == "passing"


async def test_a_server_without_encryption_is_not_told_anything_when_the_settings_want_it(server: MailServer) -> None:
    outcome = await sent(server, starttls=True, user="me", password="hunter2")
    assert outcome.status == "final"
    assert "STARTTLS" in outcome.error
    assert not any(command.startswith(("AUTH", "MAIL")) for command in server.commands)


async def test_no_server_may_pass() -> None:
    mail = Mail(settings(free_port()), threads=1)
    outcome = await mail.send(ME, firing())
    assert (outcome.status, outcome.error) == ("passing", "no mail server: ConnectionRefusedError")
    await mail.close()


async def test_a_server_that_says_nothing_keeps_nobody_else_waiting() -> None:
    enough = asyncio.Event()

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await enough.wait()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        mail = Mail(settings(server.sockets[0].getsockname()[1]), threads=1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(mail.send(ME, firing()), 0.2)
        # The loop's own threads are free.
        assert await asyncio.wait_for(asyncio.to_thread(lambda: 1), 1) == 1
        enough.set()
        await mail.close()


@pytest.mark.parametrize("address", ["me@example.org\r\nBcc: all@example.org", "me@example.org\nX: y"])
def test_an_address_cannot_become_another_header(address: str) -> None:
    with pytest.raises(ValueError):
        as_mail(firing(), "alerts@rayfeed.example", address)
    with pytest.raises(ValueError):
        as_mail(firing(message="a\r\nBcc: all@example.org"), "alerts@rayfeed.example", "me@example.org")


def test_a_note_cannot_become_a_header() -> None:
    mail = as_mail(firing(note="Bcc: all@example.org"), "alerts@rayfeed.example", "me@example.org")
    assert mail["Bcc"] is None
    assert set(mail.keys()) >= {"From", "To", "Subject"}
