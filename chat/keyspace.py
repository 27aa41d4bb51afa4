"""Every key in Redis. `{owner}` is the hash tag: all keys one script touches share a cluster slot.

    ck:{owner}:chats             ZSET    chat id -> updated_at (ms); the list of an owner's chats
    ck:{owner}:chat:<chat>       HASH    one chat, and its running turn; fields below
    ck:{owner}:history:<chat>    LIST    its messages as JSON, oldest first; only ever appended to

No key has a TTL. All are written by the scripts in `chat/lua`, called from `history.py`, only.
The owner never holds a brace, a chat id never a colon.

Fields of a chat:

    created_at updated_at        ms; without `created_at` the chat does not exist: only its first
                                 turn is running
    message_count                length of the history = the revision
    start                        place in the history of the oldest message in the prompt
    prompt_tokens completion_tokens    sums over all turns
    title model system metadata  as set by PATCH or a turn; metadata is JSON
    turn                         nonce of the running turn, the fencing token; empty: none
    lease                        ms until which nobody may take the turn for dead
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChatKeys:
    """The keys of one chat."""

    chats: str
    chat: str
    history: str


def chats_key(owner: str) -> str:
    return f"ck:{{{owner}}}:chats"


def chat_keys(owner: str, chat_id: str) -> ChatKeys:
    prefix = f"ck:{{{owner}}}:"
    return ChatKeys(f"{prefix}chats", f"{prefix}chat:{chat_id}", f"{prefix}history:{chat_id}")
