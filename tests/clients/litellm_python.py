# mypy: ignore-errors
"""litellm: completion() and responses()."""

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it asks the network for prices
import litellm
from checks import CITY, KEY, MODEL, SAID, remembers, run

TOOL = {"type": "function", "function": {"name": "weather", "parameters": CITY}}


def say(url, messages, **more):
    messages = messages if isinstance(messages, list) else [{"role": "user", "content": messages}]
    common = {"model": f"openai/{MODEL}", "api_base": url, "api_key": KEY, "max_retries": 0}
    return litellm.completion(**common, messages=messages, **more)


def respond(url, text, **more):
    common = {"model": f"openai/{MODEL}", "api_base": url, "api_key": KEY}
    return litellm.responses(**common, input=text, **more)


def chat(url):
    made = say(url, "Hello").choices[0].message.content
    return "Hello" in made and "Hello" in respond(url, "Hello").output[-1].content[0].text


def stream(url):
    parts = [c.choices[0].delta.content or "" for c in say(url, "Hello", stream=True)]
    kinds = [str(getattr(e, "type", "")) for e in respond(url, "Hello", stream=True)]
    return "Hello" in "".join(parts) and "completed" in kinds[-1].lower()


def history(url):
    messages = []
    for text in SAID:
        messages.append({"role": "user", "content": text})
        messages.append(say(url, messages).choices[0].message)
    return remembers([m.content for m in messages[1::2]])


def tools(url):
    messages = [{"role": "user", "content": "Weather in Paris?"}]
    message = say(url, messages, tools=[TOOL]).choices[0].message
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "sunny"}
    made = say(url, [*messages, message, result], tools=[TOOL])
    return "sunny" in made.choices[0].message.content


def errors(url):
    try:
        say(url, "x", n=2)
    except litellm.BadRequestError:
        return True


def cancel(url):
    for _ in say(url, "long", stream=True):
        return True


if __name__ == "__main__":
    run(chat, stream, history, tools, errors, cancel)
