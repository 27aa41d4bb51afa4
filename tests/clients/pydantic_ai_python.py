# mypy: ignore-errors
"""pydantic-ai: its chat and its responses model."""

from checks import KEY, MODEL, SAID, remembers, run
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

KINDS = (OpenAIChatModel, OpenAIResponsesModel)


class City(BaseModel):
    city: str


def agents(url, **more):
    for kind in KINDS:
        provider = OpenAIProvider(base_url=f"{url[:-3]}-{kind.__name__}/v1", api_key=KEY)
        yield Agent(kind(MODEL, provider=provider), instructions="Be brief.", **more)


def chat(url):
    return all("Hello" in a.run_sync("Hello").output for a in agents(url))


async def stream(url):
    for a in agents(url):
        async with a.run_stream("Hello") as result:
            text = "".join([t async for t in result.stream_text(delta=True, debounce_by=None)])
        if "Hello" not in text:
            return False
    return True


def history(url):
    for a in agents(url):
        messages, said = [], []
        for text in SAID:
            result = a.run_sync(text, message_history=messages)
            messages = result.all_messages()
            said.append(result.output)
        if not remembers(said):
            return False
    return True


def tools(url):
    answers = []
    for a in agents(url):

        @a.tool_plain
        def weather(city: str) -> str:
            """Weather of a city."""
            return "sunny"

        answers.append(a.run_sync("Weather in Paris?").output)
    return all("sunny" in answer for answer in answers)


def structured(url):
    return all(a.run_sync("A city").output.city for a in agents(url, output_type=City))


async def cancel(url):
    async with next(agents(url)).run_stream("long") as result:
        async for _ in result.stream_text(delta=True, debounce_by=None):
            return True


if __name__ == "__main__":
    run(chat, stream, history, tools, structured, cancel)
