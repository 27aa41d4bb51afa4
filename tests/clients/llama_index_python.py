# mypy: ignore-errors
"""llama-index: OpenAILike."""

from checks import KEY, MODEL, SAID, remembers, run
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike


def weather(city: str) -> str:
    """Weather of a city."""
    return "sunny"


def llm(url):
    return OpenAILike(
        model=MODEL,
        api_base=url,
        api_key=KEY,
        is_chat_model=True,
        is_function_calling_model=True,
        context_window=8000,
        max_retries=0,
    )


def user(text):
    return ChatMessage(role="user", content=text)


def chat(url):
    return "Hello" in llm(url).chat([user("Hello")]).message.content


def stream(url):
    return "Hello" in "".join(r.delta or "" for r in llm(url).stream_chat([user("Hello")]))


def history(url):
    messages = []
    for text in SAID:
        messages.append(user(text))
        messages.append(llm(url).chat(messages).message)
    return remembers([m.content for m in messages[1::2]])


def tools(url):
    tool, messages = FunctionTool.from_defaults(weather), [user("Weather in Paris?")]
    made = llm(url).chat_with_tools([tool], chat_history=messages, tool_required=True)
    call = llm(url).get_tool_calls_from_response(made)[0]
    more = {"tool_call_id": call.tool_id}
    result = ChatMessage(role="tool", content="sunny", additional_kwargs=more)
    made = llm(url).chat_with_tools([tool], chat_history=[*messages, made.message, result])
    return "sunny" in made.message.content


def cancel(url):
    for _ in llm(url).stream_chat([user("long")]):
        return True


if __name__ == "__main__":
    run(chat, stream, history, tools, cancel)
