# mypy: ignore-errors
"""openai-agents: its default model class, which uses Responses, and its sessions."""

import openai
from agents import (
    Agent,
    OpenAIChatCompletionsModel,
    OpenAIConversationsSession,
    Runner,
    SQLiteSession,
    function_tool,
    set_default_openai_client,
    set_tracing_disabled,
)
from checks import KEY, MODEL, SAID, remembers, run

set_tracing_disabled(True)


@function_tool
def weather(city: str) -> str:
    """Weather of a city."""
    return "sunny"


def agent(url, **more):
    client = openai.AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0)
    set_default_openai_client(client, use_for_tracing=False)
    return client, Agent(name="A", instructions="Be brief.", **({"model": MODEL} | more))


async def chat(url):
    _, a = agent(url)
    return "Hello" in (await Runner.run(a, "Hello")).final_output


async def stream(url):
    _, a = agent(url)
    result = Runner.run_streamed(a, "Hello")
    kinds = [event.type async for event in result.stream_events()]
    return kinds and "Hello" in result.final_output


async def history(url):
    client, a = agent(url)
    sessions = [SQLiteSession("x"), OpenAIConversationsSession(openai_client=client)]
    for at, session in enumerate(sessions):
        _, a = agent(f"{url[:-3]}-{at}/v1")
        said = [(await Runner.run(a, text, session=session)).final_output for text in SAID]
        if not remembers(said):
            return False
    made = await client.conversations.create()
    said = [(await Runner.run(a, text, conversation_id=made.id)).final_output for text in SAID]
    return remembers(said)


async def tools(url):
    client, a = agent(url, tools=[weather])
    model = OpenAIChatCompletionsModel(model=MODEL, openai_client=client)
    _, b = agent(url, tools=[weather], model=model)
    answers = [(await Runner.run(each, "Weather in Paris?")).final_output for each in (a, b)]
    return all("sunny" in answer for answer in answers)


async def cancel(url):
    _, a = agent(url)
    result, seen = Runner.run_streamed(a, "long"), 0
    async for _ in result.stream_events():
        seen += 1
        if seen == 4:
            result.cancel()
    return seen >= 4


if __name__ == "__main__":
    run(chat, stream, history, tools, cancel)
