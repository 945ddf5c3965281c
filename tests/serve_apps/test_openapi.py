"""The OpenAPI document says what the API does: asked all that it says may be asked, the real application with real
storage underneath answers as it says, and never with an error of its own."""

import re
from collections.abc import Iterator

import hypothesis
import pytest
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from serve_apps.openapi import PATHS, document
from serve_apps.openapi_routes import ROUTES
from tests.serve_apps.whole_api import TOKEN, WholeApi

DOCUMENT = document(ROUTES, "test")
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeApi]:
    running = WholeApi(tmp_path_factory.mktemp("api") / "data")
    yield running
    running.close()


@SCHEMA.parametrize()
@hypothesis.settings(max_examples=12, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
def test_whatever_is_asked_is_answered_as_the_document_says(case: schemathesis.Case, api: WholeApi) -> None:
    case.call_and_validate(
        base_url=f"http://127.0.0.1:{api.port}", headers={"Authorization": f"Bearer {TOKEN}"}, checks=CHECKS
    )


def test_every_example_of_a_symbol_that_is_collected_is_answered(api: WholeApi) -> None:
    body = api.ask("/docs").body.decode()
    links = [link.replace("&amp;", "&") for link in re.findall(r"<a href='([^']+)'", body)]
    assert len(links) > 15
    refused = {link: api.ask(link).status for link in links if "BTCUSDT" in link and "exchange=binance" in link}
    assert refused
    assert set(refused.values()) == {200}


def test_the_document_and_the_page_need_nobody_else(api: WholeApi) -> None:
    assert api.json(PATHS[0])["openapi"] == "3.1.0"
    page = api.ask("/docs")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    for outside in (b"<script", b"http:", b"https:", b"style="):
        assert outside not in page.body
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert api.ask("/docs.css").headers["content-type"] == "text/css; charset=utf-8"
    for route in ROUTES:
        assert route.path.encode() in page.body


def test_every_operation_has_a_name_of_its_own_and_examples() -> None:
    operations = [operation for path in DOCUMENT["paths"].values() for operation in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names) == len(ROUTES)
    for route in ROUTES:
        assert route.example is not None or route.others or route.status == 204, route.path
        sends = route.method in ("POST", "PUT") and not route.path.endswith("/logout")
        assert (route.body is None) == (not sends) or route.method == "DELETE", route.path
