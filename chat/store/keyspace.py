"""Every key in Redis: its type, what it holds, how long it lives and who writes it.

REDIS_KEY_PREFIX stands in front of all of them.
`{owner}` is the hash tag of a cluster: all keys that one script touches lie in the same slot.

    ck:{owner}:chats                  ZSET    chat id -> updated_at (ms); an owner's chats
    ck:{owner}:sizes                  HASH    chat id -> its bytes, '' -> of all; only with a quota
    ck:{owner}:chat:<chat>            HASH    one chat, and its running turn; fields below
    ck:{owner}:history:<chat>         LIST    its messages as JSON, oldest first; appended to, and an item
                                              of a conversation can be emptied
    ck:{owner}:log:<chat>:<nonce>     STREAM  the log of one streamed turn; entries: turn_log.py
    ck:{owner}:once:<fingerprint>     HASH    what is remembered of a chat's repeats, also when it
                                              is deleted; fields below
    ck:{owner}:running                ZSET    running turns that are counted,
                                              `<chat> <nonce> <reserved tokens> <day>` -> lease (ms)
    ck:{owner}:user                   HASH    the owner's record; fields below
    ck:{owner}:usage                  LIST    lines of what turns used; form: core/usage.py
    ck:{owner}:waiting                ZSET    nonce -> last seen (ms) of each message that waits
    ck:owners                         ZSET    owner -> when it first came (ms)
    ck:everybody                      HASH    `spent` and `reserved` of all owners together
    ck:gone:<hash of owner>           HASH    `rate` and `spent` of an owner who was erased today
    ck:health                         STRING  1; expires at once
    ck:pool:{agents}                  ZSET    `<agent> <instance>`; lowest score = idle longest
    ck:last_seen:{agents}             HASH    agent -> `<last heartbeat> <last message>` (ms)
    ck:inbox:{agents}:<instance>      STREAM  questions for its agents, answers to its questions;
                                              entries: agent_pool.py

TTL: chat, history and once live CHAT_TTL_SECONDS from their last change (0: they never expire), and
at least two leases while a turn is running, which begin and every beat renew: a chat lives and dies
whole. once: a day from the deletion of its chat. A log has none while its turn is running, so that a
dead turn can still be recovered, and LOG_SECONDS from its end. running: a day, as what is reserved.
gone: a day. waiting: seconds, while something waits. An inbox: 2.5 AGENT_PING_SECONDS, extended while
its instance is alive.

Writers: the scripts in lua/, called by history.py, chats.py and users.py. The entries of a log:
begin.lua the first, turn_log_writer.py the text, turn_log.py a stop, commit.lua or drop.lua the
ending. owners and gone: users.py. pool, last_seen and inboxes: agent_pool.py.

An owner never contains a brace, a chat id never a colon. With ENCRYPTION_KEY, what people and the
model say is sealed (vault.py).

Fields of a chat:

    created_at updated_at    ms; a chat exists from its first message on
    mark                     8 hex digits made with the chat; its ETag is "<mark>.<message_count>"
    born                     nonce of the turn that made the chat, until that is stored, or somebody
                             changes the chat: if that turn is dropped, so is the chat
    message_count            length of the history = the revision
    context                  the tokens of the newest turn in the history
    ended                    `<nonce>@<ms> ` of the turns that ended in the last seconds
    booked                   `<nonce> <prompt> <completion>` as booked for a turn ended from outside
    recent                   `<fingerprint of the request> <index> <nonce> <state>` of the newest turn
                             by the OpenAI API; state: none while it runs, delivered, undelivered
    start                    index in the history of the oldest message in the prompt
    bytes                    `<revision> <bytes of the messages from start to there>`
    prompt_tokens completion_tokens    sums over all turns
    title model system metadata        as set by PATCH or a turn; metadata is JSON
    label                    what it is called without a title: "Image", or the name of a file
    turn                     nonce of the running turn, the fencing token; empty: none
    lease                    ms until which the turn must not be taken for dead
    began said               when it began (ms), and what was asked (JSON, messages.Ask)
    agent                    the agent that answered last
    forks                    where branches begin (branches.py); a linear chat has none
    logs                     `<nonce>@<expiry in ms> ` for each log of a turn that has ended
    queue                    the messages that wait, in order; form: lua/parts/queue.lua
    counted                  `<reserved tokens> <day> <largest answer>` of the running turn, when its
                             end is to be counted; largest answer 0: any
    titled                   1: a person has set the title

Fields of once; keys, bodies and chat ids are kept as keyed fingerprints only (vault.py):

    <fingerprint>            `<fingerprint of the body> <index> <nonce> <state>` of an Idempotency-Key;
                             state: run, failed (it left nothing, and may run again), rolled_back
    ended                    that of the chat, when it was deleted

Fields of a record, which an owner has whose key or limits have to be checked:

    created_at               ms
    k:<hash>                 `<ms when it expires, or 0> <its last characters>` of a user key
    rate_limit daily_token_budget max_concurrent_turns    its own limits, instead of the settings'
    rate                     `<seconds>=<start of the window in ms>:<turns in it> ` for each rate
    spent reserved           `<day since 1970>:<tokens>`; reserved: what running turns may use
"""

import hashlib
import re

from chat.core.messages import ChatRef

_ck = "ck"


def use_prefix(prefix: str) -> None:
    """From now on, put this in front of every key of this process; it has no braces."""
    global _ck
    _ck = f"{prefix}ck"


def owners_key() -> str:
    """The list of all owners."""
    return f"{_ck}:owners"


def everybody_key() -> str:
    """What is counted of all owners together."""
    return f"{_ck}:everybody"


def pool_key() -> str:
    """The agents of all instances."""
    return f"{_ck}:pool:{{agents}}"


def last_seen_key() -> str:
    """When each agent last sent something."""
    return f"{_ck}:last_seen:{{agents}}"


def health_key() -> str:
    """Written to find out whether Redis takes writes."""
    return f"{_ck}:health"


def chat_key(chat: ChatRef) -> str:
    """The hash of one chat."""
    return f"{_ck}:{{{chat.owner}}}:chat:{chat.id}"


def history_key(chat: ChatRef) -> str:
    """The list of a chat's messages."""
    return f"{_ck}:{{{chat.owner}}}:history:{chat.id}"


def log_key(chat: ChatRef, nonce: str) -> str:
    """The stream of a streamed turn."""
    return f"{_ck}:{{{chat.owner}}}:log:{chat.id}:{nonce}"


def chats_key(owner: str) -> str:
    """The list of an owner's chats."""
    return f"{_ck}:{{{owner}}}:chats"


def once_key(owner: str, fingerprint: str) -> str:
    """What is remembered of the idempotency keys of a chat, by the fingerprint of its id."""
    return f"{_ck}:{{{owner}}}:once:{fingerprint}"


def running_key(owner: str) -> str:
    """The running turns of an owner that are counted."""
    return f"{_ck}:{{{owner}}}:running"


def sizes_key(owner: str) -> str:
    """How many bytes an owner's chats have, where that is limited."""
    return f"{_ck}:{{{owner}}}:sizes"


def record_key(owner: str) -> str:
    """The record of an owner: its keys and limits, and what is counted."""
    return f"{_ck}:{{{owner}}}:user"


def usage_key(owner: str) -> str:
    """What an owner used, by day and model."""
    return f"{_ck}:{{{owner}}}:usage"


def waiting_key(owner: str) -> str:
    """The messages of an owner that wait for their chats."""
    return f"{_ck}:{{{owner}}}:waiting"


def gone_key(owner: str) -> str:
    """What is counted of an erased owner; it does not contain the owner's id."""
    return f"{_ck}:gone:{hashlib.sha256(owner.encode()).hexdigest()[:32]}"


def inbox_key(instance: str) -> str:
    """The inbox of an instance, for its agents and its questions."""
    return f"{_ck}:inbox:{{agents}}:{instance}"


def all_keys_of(owner: str) -> str:
    """A pattern for SCAN that matches every key with the owner's hash tag."""
    prefix, tag = (re.sub(r"([][*?\\])", r"\\\1", text) for text in (_ck, owner))
    return f"{prefix}:{{{tag}}}:*"
