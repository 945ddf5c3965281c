from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cluster.certificate import CertificateError, self_signed
from cluster.cli import app
from cluster.edge_configuration import configuration
from cluster.front_door import front_door
from cluster.instance import Instance, InstanceError
from config import load

HOSTS = ("127.0.0.1", "10.0.0.7", "10.0.0.8")
PORTS = {"edge metrics": 21001, "serve": 21002, "data": 21003, "market": 21004, "live": 21005, "pages": 21006}


def test_replicas_are_asked_on_their_own_ports_and_serve_behind_them(tmp_path: Path) -> None:
    edge = front_door(load(tmp_path), PORTS)
    text = configuration(edge, 1, 100)
    for lane in (PORTS["pages"], PORTS["market"], PORTS["data"]):
        assert f"server s0 127.0.0.1:{lane} check\n    server b0 127.0.0.1:21002 check backup\n" in text
    assert "path_beg /api/v1/" in text
    assert edge.certificate == tmp_path / "tls" / "edge.pem"


def test_other_hosts_answer_for_data_and_the_live_feed(tmp_path: Path) -> None:
    text = configuration(front_door(load(tmp_path), PORTS, ["10.0.0.7", "10.0.0.8"]), 1, 100)
    for lane in (PORTS["data"], PORTS["live"]):
        servers = [f"    server s{number} {host}:{lane} check\n" for number, host in enumerate(HOSTS)]
        assert "balance leastconn\n" + "".join(servers) in text
    for lane in (PORTS["pages"], PORTS["market"]):
        assert f"10.0.0.7:{lane}" not in text


def test_without_tls_there_is_no_certificate(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("edge: {tls: false}")
    assert front_door(load(tmp_path), PORTS).certificate is None
    assert not (tmp_path / "tls").exists()


def test_your_certificate_is_checked_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text(f"edge: {{certificate: {tmp_path}/none.pem}}")
    with pytest.raises(CertificateError, match="cannot be read"):
        front_door(load(tmp_path), PORTS)
    made = self_signed(tmp_path / "other", "localhost", datetime.now(UTC))
    (tmp_path / "settings.yaml").write_text(f"edge: {{certificate: {made}}}")
    assert front_door(load(tmp_path), PORTS).certificate == tmp_path / "tls" / "own.pem"


def test_reload_says_that_nothing_runs_or_still_starts(tmp_path: Path) -> None:
    said = CliRunner().invoke(app, ["edge", "reload", "--data", str(tmp_path)])
    assert isinstance(said.exception, InstanceError)
    assert str(said.exception).startswith("nothing runs on")
    claim = Instance.claim(tmp_path)
    try:
        said = CliRunner().invoke(app, ["edge", "reload", "--data", str(tmp_path)])
        assert "still starting" in str(said.exception)
    finally:
        claim.release()
