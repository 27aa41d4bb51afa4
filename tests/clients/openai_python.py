# mypy: ignore-errors
"""The openai SDK for Python."""

import threading

import openai
from checks import CITY, KEY, MODEL, SAID, remembers, run

TOOL = {"type": "function", "function": {"name": "weather", "parameters": CITY}}
FLAT = {"type": "function", "name": "weather", "parameters": CITY, "strict": True}


def sdk(url):
    return openai.OpenAI(base_url=url, api_key=KEY, max_retries=0)


def say(url, text, **more):
    messages = [{"role": "user", "content": text}]
    return sdk(url).chat.completions.create(model=MODEL, messages=messages, **more)


def chat(url):
    made = say(url, "Hello")
    response = sdk(url).responses.create(model=MODEL, input="Hello")
    return made.usage.total_tokens and response.usage.total_tokens and response.output_text


def stream(url):
    text = "".join(c.choices[0].delta.content or "" for c in say(url, "Hello", stream=True))
    with sdk(url).responses.stream(model=MODEL, input="Hello") as events:
        kinds = [event.type for event in events]
        whole = events.get_final_response().output_text
    return "Hello" in text and "Hello" in whole and kinds[-1] == "response.completed"


def history(url):
    newest = [say(url, text).choices[0].message.content for text in SAID]
    messages, whole = [], []
    for text in SAID:
        messages.append({"role": "user", "content": text})
        made = sdk(f"{url[:-3]}-whole/v1").chat.completions.create(model=MODEL, messages=messages)
        messages.append(made.choices[0].message)
        whole.append(made.choices[0].message.content)
    last, chained = openai.NOT_GIVEN, []
    for text in SAID:
        made = sdk(f"{url[:-3]}-chain/v1").responses.create(
            model=MODEL, input=text, previous_response_id=last
        )
        last = made.id
        chained.append(made.output_text)
    return remembers(newest) and remembers(whole) and remembers(chained)


def tools(url):
    call = say(url, "Weather in Paris?", tools=[TOOL]).choices[0].message.tool_calls[0]
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    made = sdk(url).chat.completions.create(model=MODEL, messages=[result], tools=[TOOL])
    first = sdk(url).responses.create(model=MODEL, input="Weather in Paris?", tools=[FLAT])
    output = {"call_id": first.output[0].call_id, "output": "sunny"}
    second = sdk(url).responses.create(
        model=MODEL,
        previous_response_id=first.id,
        tools=[FLAT],
        input=[{"type": "function_call_output", **output}],
    )
    return "sunny" in made.choices[0].message.content and "sunny" in second.output_text


def structured(url):
    schema = {"name": "City", "schema": CITY, "strict": True}
    made = say(url, "A city", response_format={"type": "json_schema", "json_schema": schema})
    return '"city"' in made.choices[0].message.content


def image(url):
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "See"}, picture]}]
    made = sdk(url).chat.completions.create(model=MODEL, messages=messages)
    again = sdk(url).chat.completions.create(
        model=MODEL,
        messages=[*messages, made.choices[0].message, {"role": "user", "content": "And?"}],
    )
    return "(2 so far)" in again.choices[0].message.content


def errors(url):
    try:
        say(url, "x", n=2)
    except openai.BadRequestError as error:
        return error.code == "unsupported_parameter"


def cancel(url):
    c, response_id, kinds = sdk(url), None, []
    stopping = []
    for event in c.responses.create(model=MODEL, input="long", background=True, stream=True):
        kinds.append(event.type)
        response_id = response_id or event.response.id
        if event.type == "response.output_text.delta" and not stopping:
            stopping.append(threading.Thread(target=c.responses.cancel, args=[response_id]))
            stopping[0].start()
    stopping[0].join()
    status = c.responses.retrieve(response_id).status
    return (kinds[-1], status) == ("response.completed", "cancelled")


def resume(url):
    c, text, response_id, last = sdk(url), "", None, None
    for event in c.responses.create(model=MODEL, input="long", background=True, stream=True):
        response_id, last = response_id or event.response.id, event.sequence_number
        if event.type == "response.output_text.delta":
            text += event.delta
            break
    for event in c.responses.retrieve(response_id, stream=True, starting_after=last):
        text += event.delta if event.type == "response.output_text.delta" else ""
    return text == c.responses.retrieve(response_id).output_text


if __name__ == "__main__":
    run(chat, stream, history, tools, structured, image, errors, cancel, resume)
