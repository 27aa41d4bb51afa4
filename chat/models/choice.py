"""Chooses who answers a turn, the model API or an agent, and writes the request."""

import uuid
from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from chat.core import prompt as prompts
from chat.core.completions import ChatRequest, written
from chat.core.errors import NoAgent, NotAllowed
from chat.core.messages import Ask, ChatRef, TurnRef, plain_text
from chat.core.outcomes import Begun
from chat.core.prompt import Prompt
from chat.models.agents import Agents
from chat.models.agents.wire import Question
from chat.models.providers import Alternative, Providers
from chat.models.upstream import ModelCall
from chat.settings import AGENT, Settings

#: Calls the model; given the answer so far and its tokens, asks it to continue from there.
Calls = Callable[[str, int], ModelCall]


class Candidate(msgspec.Struct, frozen=True):
    """Who may answer a turn.

    `provider`: its host, if it is not that of OPENAI_BASE_URL; `secrets`: to be hidden in errors.
    """

    model: str
    call: Calls
    provider: str = ""
    secrets: tuple[str, ...] = ()


class Models:
    """The model API and the agents."""

    def __init__(self, providers: Providers, agents: Agents, settings: Settings) -> None:
        self._providers = providers
        self._agents = agents
        self._settings = settings

    def check(self, model: str) -> None:
        """Raises NotAllowed for a model that clients may not name; "" is the default one."""
        if model and not self._settings.may_name(model):
            raise NotAllowed("This model is not allowed.", param="model")

    def name(self, begun: Begun, ask: Ask) -> str:
        """The model of a turn. Raises NotAllowed."""
        model = ask.model or begun.model or self._settings.gpt_model
        self.check(model)
        return model

    def open(
        self, chat: ChatRef, begun: Begun, ask: Ask, prompt: Prompt, parent_id: str | None
    ) -> list[Candidate]:
        """Whoever is asked, one after the other, until one answers. Raises NotAllowed and NoAgent."""
        most = self.max_tokens(begun, ask)

        def ask_agent(text: str, used_tokens: int) -> ModelCall:
            limited = replace(ask, max_tokens=most and most - used_tokens)
            question = self._question(chat, begun.ref, limited, prompt, parent_id, text)
            return self._agents.ask(question, begun.agent)

        def limited(used_tokens: int) -> Ask:
            return replace(ask, max_tokens=most and most - used_tokens)

        def candidate(found: Alternative) -> Candidate:
            def call(text: str, used_tokens: int) -> ModelCall:
                request = self._request(found.model, prompt, limited(used_tokens), text)
                return found.upstream.call(request)

            return Candidate(found.model, call, found.provider, found.upstream.secrets)

        if ask.prefers_agents and self._settings.lets_agents_in:
            try:
                return [Candidate(AGENT, _FirstCallMade(ask_agent("", 0), ask_agent))]
            except NoAgent:
                if not self._settings.has_upstream:
                    raise
        model = self.name(begun, ask)
        if model == AGENT:
            return [Candidate(AGENT, _FirstCallMade(ask_agent("", 0), ask_agent))]
        return [candidate(found) for found in self._providers.alternatives(model)]

    def _question(
        self,
        chat: ChatRef,
        ref: TurnRef,
        ask: Ask,
        prompt: Prompt,
        parent_id: str | None,
        text: str,
    ) -> Question:
        messages = prompts.go_on(prompt.messages, text) if text else prompt.messages
        return Question(
            message_id=ref.user_message_id,
            conversation_id=_conversation(chat),
            parent_id=parent_id or "",
            content=plain_text(messages[-1].content),
            messages=written(messages),
            stream=ask.stream,
            temperature=ask.temperature,
            max_tokens=ask.max_tokens,
        )

    def _request(self, model: str, prompt: Prompt, ask: Ask, text: str) -> ChatRequest:
        messages = prompts.go_on(prompt.messages, text) if text else prompt.messages
        return ChatRequest(
            model,
            messages,
            stream=ask.stream,
            temperature=ask.temperature,
            max_tokens=ask.max_tokens,
            params=ask.params or {},
        )

    def max_tokens(self, begun: Begun, ask: Ask) -> int | None:
        """The largest answer, in all its calls together; None: any."""
        limits = [ask.max_tokens, self._settings.max_output_tokens, begun.max_tokens]
        return min(filter(None, limits), default=None)


class _FirstCallMade:
    """`Calls` whose first call has been made already."""

    def __init__(self, first: ModelCall, again: Calls) -> None:
        self._first: ModelCall | None = first
        self._again = again

    def __call__(self, text: str, used_tokens: int) -> ModelCall:
        first, self._first = self._first, None
        return first or self._again(text, used_tokens)


def _conversation(chat: ChatRef) -> str:
    """The chat's id as agents see it: unique even if two owners use the same chat id."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{chat.owner}\n{chat.id}"))
