"""GET /v1/models, and the endpoints of the OpenAI API that this server does not have."""

from typing import Any

from flask import Request, Response

from chat.core.credentials import Caller
from chat.core.errors import NotFound
from chat.settings import Settings
from chat.web.dialects.openai.errors import translate
from chat.web.routes import Route, json_response

_MISSING = [
    ("GET", "/v1/chat/completions"),
    ("GET", "/v1/chat/completions/<completion_id>"),
    ("POST", "/v1/chat/completions/<completion_id>"),
    ("DELETE", "/v1/chat/completions/<completion_id>"),
    ("GET", "/v1/chat/completions/<completion_id>/messages"),
    ("GET", "/v1/responses"),
    ("POST", "/v1/responses/input_tokens"),
    ("POST", "/v1/responses/compact"),
]


class ModelRoutes:
    """The models that clients may name."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def routes(self) -> list[Route]:
        prefixes = ("", "/<chat_id>")
        models = [
            Route("GET", f"{prefix}/v1/models{rest}", handler, translate=translate)
            for prefix in prefixes
            for rest, handler in (("", self.list_models), ("/<path:model>", self.get_model))
        ]
        missing = [
            Route(method, prefix + path, self.refuse, translate=translate, status=404)
            for prefix in prefixes
            for method, path in _MISSING
        ]
        return models + missing

    def list_models(self, request: Request, caller: Caller, chat_id: str = "") -> Response:
        """List the models that may be named."""
        data = [_write_model(name) for name in self._settings.models]
        return json_response({"object": "list", "data": data})

    def get_model(
        self, request: Request, caller: Caller, model: str, chat_id: str = ""
    ) -> Response:
        """Get one of the models."""
        if not self._settings.may_name(model):
            raise NotFound(f"There is no model {model}.", param="model", code="model_not_found")
        return json_response(_write_model(model))

    def refuse(self, request: Request, caller: Caller, **parts: str) -> Response:
        """Say that this endpoint is not there."""
        raise NotFound("This server does not have this endpoint.", code="unsupported_endpoint")


def _write_model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "chatkeep"}
