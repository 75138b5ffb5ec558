"""How a JSON body is read: strictly, and without a way to exhaust the reader."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import RequestDataTooBig
from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import JSONParser


class TooLarge(APIException):
    """413 with words."""

    status_code = 413
    default_code = "too_large"
    default_detail = "The body is larger than this server reads."


class BoundedJSONParser(JSONParser):
    """JSON as RFC 8259 has it; what is nested too deeply or too large is refused like what is malformed."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        try:
            return super().parse(stream, media_type, parser_context)
        except RecursionError:
            raise ParseError("The body is nested too deeply.") from None
        except RequestDataTooBig:
            raise TooLarge from None
