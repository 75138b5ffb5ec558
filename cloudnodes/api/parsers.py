"""JSON also when it is sent as text/plain: artists' tools call `fetch` with a JSON body and no content type."""

from core.api.parsers import BoundedJSONParser as JSONParser


class PlainJSONParser(JSONParser):
    """What a browser calls text/plain when a script gave it a string."""

    media_type = "text/plain"
