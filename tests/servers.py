"""Real servers for the tests, as child processes on loopback with free ports and folders of their own."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from cluster.instance import free_ports
from storage import redis
from tests.polling import wait_until

PASSWORD = "tests-only-tests-only"
CLICKHOUSE_SERVER = shutil.which("clickhouse-server", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

needs_clickhouse_server = pytest.mark.skipif(
    CLICKHOUSE_SERVER is None, reason="clickhouse-server is not installed (apt-get install clickhouse-server)"
)


def free_port() -> int:
    """A port nobody listens on now."""
    return free_ports(1)[0]


class Server:
    """A child process that can be stopped and started again; leaving the `with` block stops it."""

    stop_signal = signal.SIGTERM

    def __init__(self, command: Sequence[str], folder: Path, port: int, address: str = "127.0.0.1") -> None:
        self._command = command
        self._log = folder / "log"
        self._address = address
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, start_new_session=True)
        wait_until(self._listens)

    def stop(self) -> None:
        """End it and wait; no effect where it does not run."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.send_signal(self.stop_signal)
        self._process.wait(10)
        self._process = None

    def freeze(self) -> None:
        """Stop answering while staying connected."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text(errors="replace")[-2000:]
        try:
            socket.create_connection((self._address, self.port), 1).close()
        except OSError:
            return False
        return True

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


class RedisServer(Server):
    """The embedded Redis, as the system starts it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        port = free_port()
        super().__init__(redis.embedded_command(folder, port, PASSWORD), folder, port)
        self.url = redis.url(port, PASSWORD)


class ClickHouseServer(Server):
    """Debian's clickhouse-server; `url` names a database that does not exist yet."""

    # Told to terminate, this version waits ten seconds for its clients.
    stop_signal = signal.SIGKILL

    def __init__(self, folder: Path, certificate: Path | None = None, address: str = "127.0.0.1") -> None:
        """With `certificate` (key and certificate in one file) it speaks TLS too, at `secure_url`. It listens at
        `address`, for its whole /24."""
        assert CLICKHOUSE_SERVER is not None
        folder.mkdir(parents=True, exist_ok=True)
        # One by one, two of them may be the same.
        port, http_port, secure_port = free_ports(3)
        (folder / "users.xml").write_text(
            f"""<yandex><profiles><default/></profiles><quotas><default/></quotas><users><default>
            <password>{PASSWORD}</password><networks><ip>{address}/24</ip></networks>
            <profile>default</profile><quota>default</quota></default></users></yandex>"""
        )
        secure = (
            f"""<tcp_port_secure>{secure_port}</tcp_port_secure><openSSL><server>
            <certificateFile>{certificate}</certificateFile><privateKeyFile>{certificate}</privateKeyFile>
            <verificationMode>none</verificationMode></server></openSSL>"""
            if certificate
            else ""
        )
        (folder / "config.xml").write_text(
            f"""<yandex>{secure}<logger><level>warning</level><console>1</console></logger>
            <tcp_port>{port}</tcp_port><http_port>{http_port}</http_port><listen_host>{address}</listen_host>
            <path>{folder}/data/</path><tmp_path>{folder}/data/tmp/</tmp_path>
            <users_config>{folder}/users.xml</users_config><mark_cache_size>67108864</mark_cache_size>
            <default_profile>default</default_profile><default_database>default</default_database></yandex>"""
        )
        (folder / "data").mkdir(exist_ok=True)
        # The port of TLS is opened last.
        last = secure_port if certificate else port
        super().__init__([CLICKHOUSE_SERVER, f"--config-file={folder}/config.xml"], folder, last, address)
        self.url = f"clickhouse://default:{PASSWORD}@{address}:{port}/rayfeed"
        self.secure_url = f"clickhouses://default:{PASSWORD}@{address}:{secure_port}/rayfeed"
