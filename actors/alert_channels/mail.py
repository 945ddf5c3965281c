"""E-mail, handed to one SMTP server."""

import asyncio
import smtplib
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from typing import Final

from actors.alerting.messages import as_mail
from actors.alerting.retries import Outcome
from config.settings import SmtpSettings
from storage.alert_log import Firing, Targets

#: For each step of the conversation.
ANSWER_S: Final = 10.0


class Mail:
    """`threads` conversations at the same time, in threads of their own: a slow server keeps nobody else waiting."""

    def __init__(self, settings: SmtpSettings, threads: int) -> None:
        self._settings = settings
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="alert-mail")

    async def send(self, targets: Targets, firing: Firing) -> Outcome:
        try:
            mail = as_mail(firing, self._settings.from_address, targets.email or "")
        except ValueError:
            return Outcome("final", error="not an address mail can be sent to")
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._hand_over, mail)

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _hand_over(self, mail: EmailMessage) -> Outcome:
        settings, taken = self._settings, False
        try:
            # Told our name, it does not look it up.
            with smtplib.SMTP(settings.host, settings.port, socket.gethostname(), timeout=ANSWER_S) as server:
                if settings.starttls:
                    server.starttls(context=ssl.create_default_context())
                if settings.user is not None and settings.password is not None:
                    server.login(settings.user, settings.password.get_secret_value())
                server.send_message(mail)
                taken = True
        except (smtplib.SMTPException, OSError, ValueError) as error:
            # Nobody minds how the goodbye went.
            if not taken:
                return _failure(error)
        return Outcome("delivered", 250)


def _failure(error: Exception) -> Outcome:
    match error:
        case smtplib.SMTPRecipientsRefused():
            return _refused(*next(iter(error.recipients.values())))
        case smtplib.SMTPResponseException():
            return _refused(error.smtp_code, error.smtp_error)
        case UnicodeError():
            # Its text holds what could not be sent, which may be the password.
            return Outcome("final", error="alerts.smtp: host, user and password may have ASCII characters alone")
        case smtplib.SMTPNotSupportedError():
            return Outcome("final", error=f"the mail server cannot do what the settings ask for: {error}")
        case _:
            return Outcome("passing", error=f"no mail server: {type(error).__name__}")


def _refused(code: int, said: bytes | str) -> Outcome:
    text = said.decode(errors="replace") if isinstance(said, bytes) else said
    line = "".join(letter if letter.isprintable() else " " for letter in text)[:200]
    return Outcome("passing" if 400 <= code < 500 else "final", code, f"the mail server answered {code} {line}")
