"""What the settings add up to, and a description of each."""

from typing import Any

import msgspec
from msgspec import Meta

from chat.core.limits import Limits
from chat.settings.fields import Fields
from chat.settings.model_fields import OPENAI_URL

AGENT = "agent"  # as a model: whichever agent is connected


class Settings(Fields, frozen=True, kw_only=True):
    """Every setting, and what follows from several of them."""

    @property
    def auth_ways(self) -> frozenset[str]:
        """The ways to prove who one is that AUTH lists."""
        return _words(self.auth)

    @property
    def knows_users(self) -> bool:
        """Whether callers have owners of their own; else all of them are the anonymous one."""
        return bool(self.auth_ways - {"open", "local"})

    @property
    def origins(self) -> frozenset[str]:
        """Origins whose web apps may call the API; "*" stands for all."""
        return _words(self.cors_origins)

    @property
    def limits(self) -> Limits:
        """Limits of an owner who has none of its own."""
        return Limits(self.rate_limit, self.daily_token_budget, self.max_concurrent_turns)

    @property
    def key_of_agents(self) -> str:
        """The key that agents connect with; "" without one."""
        return self.agent_key or self.admin_key

    @property
    def lets_agents_in(self) -> bool:
        """With a key; without one, only those of this machine, where it has no users either."""
        return bool(self.key_of_agents) or not (self.knows_users or self.k_service)

    @property
    def has_upstream(self) -> bool:
        """Whether there is a model API, or agents alone."""
        return bool(self.gpt_api_key) or self.openai_base_url != OPENAI_URL

    @property
    def parameters(self) -> frozenset[str]:
        """Parameters that clients may use although they change the price."""
        return _words(self.allowed_parameters)

    @property
    def models(self) -> list[str]:
        """The models that clients see: the default one, and those they may name besides."""
        if not self.has_upstream:
            return [AGENT]
        agents = {AGENT} if self.lets_agents_in and self.may_name(AGENT) else set()
        others = (_words(self.allowed_models) | agents) - {self.gpt_model}
        return [self.gpt_model, *sorted(others)]

    def may_name(self, model: str) -> bool:
        """Whether a client may ask for this model."""
        if not self.has_upstream:
            return model == AGENT
        allowed = _words(self.allowed_models)
        return not allowed or model in allowed or model == self.gpt_model

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(f.name, getattr(self, f.name)) for f in all_fields() if not f.secret]

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"Settings({shown})"


class Field(msgspec.Struct, frozen=True):
    """One setting: `variable` is its environment variable, `type` what msgspec converts to."""

    name: str
    variable: str
    alias: str
    type: Any
    default: Any
    help: str
    secret: bool


def all_fields() -> list[Field]:
    """Every setting, in the order of the table."""
    return [_describe(info) for info in msgspec.structs.fields(Settings)]


def _describe(info: msgspec.structs.FieldInfo) -> Field:
    meta: Meta = info.type.__metadata__[0]
    extra = meta.extra or {}
    return Field(
        info.name,
        info.name.upper(),
        extra.get("alias", ""),
        info.type,
        info.default,
        meta.description or "",
        extra.get("secret", False),
    )


def _words(text: str) -> frozenset[str]:
    return frozenset(word.strip() for word in text.split(",") if word.strip())
