"""The part of the table of settings that is about models."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

OPENAI_URL = "https://api.openai.com/v1"
SECRET = {"secret": True}


class ModelFields(msgspec.Struct, frozen=True, kw_only=True):
    """Which models answer, and how they are reached."""

    gpt_api_key: Annotated[
        str,
        Meta(
            description="Key of the model API; OPENAI_API_KEY is read as well."
            " Required unless OPENAI_BASE_URL is set or GPT_MODEL=agent.",
            extra=SECRET | {"alias": "OPENAI_API_KEY"},
        ),
    ] = ""
    openai_base_url: Annotated[str, Meta(description="Base URL of any OpenAI-compatible API.")] = (
        OPENAI_URL
    )
    gpt_model: Annotated[
        str,
        Meta(description="Model of a turn that names none; `agent`: whichever agent is connected."),
    ] = "gpt-5.4-mini"
    upstream_headers: Annotated[
        str,
        Meta(
            description="Headers for the model API besides ours, or instead of ours of the same name:"
            ' a JSON object, e.g. {"x-portkey-provider": "openai"}.',
            extra=SECRET,
        ),
    ] = ""
    fallback_models: Annotated[
        str,
        Meta(
            description="Who is asked when a model fails before its first character, in this order,"
            " comma-separated: `model`, or `model=base URL` at another provider."
        ),
    ] = ""
    fallback_keys: Annotated[
        str,
        Meta(
            description="Keys of the other providers in FALLBACK_MODELS, by host, comma-separated,"
            " e.g. api.mistral.ai=key.",
            extra=SECRET,
        ),
    ] = ""
    keep_reasoning: Annotated[
        bool, Meta(description="Store what the model thinks with its message, as `reasoning`.")
    ] = False
    https_proxy: Annotated[
        str,
        Meta(
            description="http:// URL of the proxy through which an https:// model API is reached.",
            extra=SECRET | {"alias": "https_proxy"},
        ),
    ] = ""
    no_proxy: Annotated[
        str,
        Meta(
            description="Hosts and domains that are reached without HTTPS_PROXY, comma-separated.",
            extra={"alias": "no_proxy"},
        ),
    ] = ""
    gce_metadata_host: Annotated[
        str,
        Meta(
            description="Google's metadata server: its tokens are the key of a *.googleapis.com"
            " model API that is given none."
        ),
    ] = "metadata.google.internal"
    system_prompt: Annotated[
        str, Meta(description="System prompt of a chat that has none of its own.")
    ] = ""
    titles: Annotated[
        Literal["first-words", "model", "off"],
        Meta(
            description="How a new chat gets its title: `first-words` of its first message,"
            " `model` (asks the model once, after the first answer) or `off`."
        ),
    ] = "first-words"
