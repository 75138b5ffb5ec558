"""What nobody foresaw is logged with its cause, and told without it."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from django.http import HttpRequest
from django.test import RequestFactory

from core.logs import JsonFormatter
from core.middleware import ErrorMiddleware


@pytest.mark.unit
@pytest.mark.parametrize(("path", "headers"), [("/api/nodes/", {}), ("/cloud-nodes/", {"HX-Request": "true"})])
def test_the_log_has_the_cause_and_the_answer_has_not(
    caplog: pytest.LogCaptureFixture, path: str, headers: dict[str, str]
) -> None:
    def broken(request: HttpRequest) -> Any:
        raise ValueError("a shelf that is not there")

    request = RequestFactory().get(path, headers=headers)
    request.htmx = bool(headers)  # type: ignore[attr-defined]
    try:
        broken(request)
    except ValueError as error:
        with caplog.at_level(logging.ERROR):
            response = ErrorMiddleware(broken).process_exception(request, error)
    assert response is not None
    assert response.status_code == 500
    assert "shelf" not in response.content.decode()
    line = JsonFormatter().format(caplog.records[-1])
    assert "unhandled_error" in line
    assert "a shelf that is not there" in line
    assert "test_unhandled.py" in line
