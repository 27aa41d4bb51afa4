# mypy: ignore-errors
"""langchain-openai: chat completions and responses."""

import openai
from checks import CITY, KEY, MODEL, SAID, remembers, run
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI


@tool
def weather(city: str) -> str:
    """Weather of a city."""
    return "sunny"


def models(url):
    for responses in (False, True):
        yield ChatOpenAI(
            model=MODEL, base_url=url, api_key=KEY, max_retries=0, use_responses_api=responses
        )


def chat(url):
    return all("Hello" in model.invoke("Hello").text for model in models(url))


def stream(url):
    return all("Hello" in "".join(c.text for c in m.stream("Hello")) for m in models(url))


def history(url):
    found = []
    for at, model in enumerate(models(url)):
        model, messages = (
            next(m for n, m in enumerate(models(f"{url[:-3]}-{at}/v1")) if n == at),
            [],
        )
        for text in SAID:
            messages.append(HumanMessage(text))
            messages.append(model.invoke(messages))
        found.append(remembers([m.text for m in messages[1::2]]))
    return all(found)


def tools(url):
    found = []
    for model in models(url):
        model, messages = model.bind_tools([weather]), [HumanMessage("Weather in Paris?")]
        messages.append(model.invoke(messages))
        messages += [weather.invoke(call) for call in messages[-1].tool_calls]
        found.append("sunny" in model.invoke(messages).text)
    return all(found)


def structured(url):
    schema = {"title": "City", "description": "A city.", **CITY}
    return all("city" in m.with_structured_output(schema).invoke("A city") for m in models(url))


def errors(url):
    try:
        next(models(url)).invoke("x", n=2)
    except openai.BadRequestError:
        return True


def cancel(url):
    for _ in next(models(url)).stream("long"):
        return True


if __name__ == "__main__":
    run(chat, stream, history, tools, structured, errors, cancel)
