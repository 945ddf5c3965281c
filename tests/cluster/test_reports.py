"""Reports of a running instance: made of its own data, published over HTTP, and seen through the front door."""

import json
import time
import urllib.request

from tests.cluster.running import Instance, command
from tests.polling import wait_until


def page(instance: Instance, path: str, language: str) -> str:
    request = urllib.request.Request(instance.url + path, headers={"Accept-Language": language})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.headers["Content-Language"] == language
        text: str = answer.read().decode()
        return text


def is_made_of_trades(instance: Instance) -> bool:
    """Once bars of a minute have come to ClickHouse."""
    made = command("report", "generate", "--data", str(instance.data), "--json")
    assert made.returncode == 0, made.stderr
    report = instance.json(f"/api/v1/reports/{json.loads(made.stdout)['id']}")
    return "BTCUSDT" in report["pages"]["html_en"]


def test_a_report_of_the_day_is_made_and_seen_in_both_languages(simulated: Instance) -> None:
    wait_until(lambda: is_made_of_trades(simulated), 120.0)
    assert "Báo cáo thị trường ngày" in page(simulated, "/crypto_report", "vi")
    assert "Market report of" in page(simulated, "/crypto_report", "en")


def test_a_report_that_is_published_is_everywhere_within_five_seconds(simulated: Instance) -> None:
    token = (simulated.data / "secrets" / "api_token").read_text()
    body = json.dumps({"title_vi": "Tin mới nhất", "html_vi": "<p>giá</p>"}).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    page(simulated, "/crypto_reports_list", "vi")
    request = urllib.request.Request(simulated.url + "/api/v1/reports", body, headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 201
    began = time.monotonic()
    for path in ("/crypto_report", "/crypto_reports_list", "/rss.xml"):
        wait_until(lambda path=path: "Tin mới nhất" in page(simulated, path, "vi"), 5.0)  # type: ignore[misc]
    assert time.monotonic() - began < 5
