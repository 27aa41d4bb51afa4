"""Every key in Redis. `{owner}` is the hash tag: all keys one script touches share a cluster slot.

    ck:{owner}:chats                  ZSET    chat id -> updated_at (ms); the list of an owner's chats
    ck:{owner}:chat:<chat>            HASH    one chat, and its running turn; fields below
    ck:{owner}:history:<chat>         LIST    its messages as JSON, oldest first; only appended to
    ck:{owner}:log:<chat>:<nonce>     STREAM  the events of one streamed turn; entries in streams.py
    ck:{owner}:user                   HASH    the owner's record; fields below
    ck:{owner}:usage                  LIST    `<day> <model> <requests> <prompt> <completion tokens>`
    ck:owners                         ZSET    owners -> when they first came (ms)
    ck:everybody                      HASH    `spent`, as in a record, of all owners together
    ck:gone:<hash of owner>           HASH    `rate` and `spent` of an owner who was erased today
    ck:pool:{agents}                  ZSET    `<agent> <instance>`; who was used longest ago has the lowest score
    ck:seen:{agents}                  HASH    agent -> `<last sign of life> <last message>` (ms)
    ck:inbox:{agents}:<instance>      STREAM  questions for its agents, answers to its questions; see agents/pool.py

TTL: chat and history CHAT_TTL_SECONDS from the last change (0: none); a log LOG_SECONDS from its
end, none while its turn runs, so that a dead turn waits for whoever comes next; gone: a day; an
inbox 2.5 AGENT_PING_SECONDS, for as long as its instance lives.
Writers: the scripts in `chat/lua`, called from history.py and users.py; a log's entries between its
ends, streams.py; the three keys without an owner, users.py; those of agents, agents/pool.py. The owner never holds a brace, a chat id
never a colon. With ENCRYPTION_KEY, what people and the model say is sealed (vault.py).

Fields of a chat:

    created_at updated_at    ms; without `created_at` the chat does not exist: its first turn runs
    message_count            length of the history = the revision
    start                    place in the history of the oldest message in the prompt
    prompt_tokens completion_tokens    sums over all turns
    title model system metadata        as set by PATCH or a turn; metadata is JSON
    turn                     nonce of the running turn, the fencing token; empty: none
    lease                    ms until which nobody may take that turn for dead
    began said               when it began, and what was asked (JSON, messages.Ask)
    agent                    who answered last, of the agents that dial in
    forks                    where branches begin (branches.py); a linear chat has none
    logs                     `<nonce>@<expiry in ms> ` of each log that has ended
    k:<hash>                 `<hash of the body> <place> <nonce>` of the turn an Idempotency-Key made
    counted                  1: the end of the running turn has to be counted in the owner's record
    titled                   1: a person has set the title

Fields of a record, which an owner has whose key or limits have to be checked:

    created_at               ms
    k:<hash>                 `<ms when it ends, or 0> <its last characters>` of a user key
    rate_limit daily_token_budget max_concurrent_turns    its own limits, instead of the settings'
    rate                     `<seconds>=<start of the time in ms>:<turns in it> ` for each rate
    spent                    `<day since 1970>:<tokens>`
    running                  `<chat>@<nonce>@<began in ms> ` of each turn, when their ends are counted
"""

import hashlib
import re

from chat.core.messages import ChatRef

OWNERS_KEY = "ck:owners"
EVERYBODY_KEY = "ck:everybody"
POOL_KEY = "ck:pool:{agents}"
SEEN_KEY = "ck:seen:{agents}"


def chat_key(chat: ChatRef) -> str:
    """A chat's own values: a hash."""
    return f"ck:{{{chat.owner}}}:chat:{chat.id}"


def history_key(chat: ChatRef) -> str:
    """A chat's messages: a list."""
    return f"ck:{{{chat.owner}}}:history:{chat.id}"


def log_key(chat: ChatRef, nonce: str) -> str:
    """The log of one turn: a stream."""
    return f"ck:{{{chat.owner}}}:log:{chat.id}:{nonce}"


def inbox_key(instance: str) -> str:
    """What agents' answers come through to an instance: a stream."""
    return f"ck:inbox:{{agents}}:{instance}"


def record_key(owner: str) -> str:
    """What is kept of an owner: a hash."""
    return f"ck:{{{owner}}}:user"


def usage_key(owner: str) -> str:
    """An owner's usage, a row per day and model: a list."""
    return f"ck:{{{owner}}}:usage"


def gone_key(owner: str) -> str:
    """What outlives an owner's erasure: the limits of the day."""
    return f"ck:gone:{hashlib.sha256(owner.encode()).hexdigest()[:32]}"


def all_keys_of(owner: str) -> str:
    """A pattern for SCAN."""
    escaped = re.sub(r"([][*?\\])", r"\\\1", owner)
    return f"ck:{{{escaped}}}:*"


def chats_key(owner: str) -> str:
    """An owner's chats by the time of their last turn: a sorted set."""
    return f"ck:{{{owner}}}:chats"
