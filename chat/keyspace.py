"""Every key in Redis. `{owner}` is the hash tag: all keys one script touches share a cluster slot.

    ck:{owner}:chats                  ZSET    chat id -> updated_at (ms); the list of an owner's chats
    ck:{owner}:chat:<chat>            HASH    one chat, and its running turn; fields below
    ck:{owner}:history:<chat>         LIST    its messages as JSON, oldest first; only appended to
    ck:{owner}:log:<chat>:<nonce>     STREAM  the events of one streamed turn; entries in streams.py

TTL: chat and history CHAT_TTL_SECONDS from the last change (0: none); a log LOG_SECONDS from its
end, none while its turn runs, so that a dead turn waits for whoever comes next. Writers: the
scripts in `chat/lua`, called from history.py; a log's entries between its ends, streams.py.
The owner never holds a brace, a chat id never a colon.

Fields of a chat:

    created_at updated_at    ms; without `created_at` the chat does not exist: its first turn runs
    message_count            length of the history = the revision
    start                    place in the history of the oldest message in the prompt
    prompt_tokens completion_tokens    sums over all turns
    title model system metadata        as set by PATCH or a turn; metadata is JSON
    turn                     nonce of the running turn, the fencing token; empty: none
    lease                    ms until which nobody may take that turn for dead
    began said               when it began, and what was asked (JSON, messages.Ask)
    forks                    where branches begin (branches.py); a linear chat has none
    logs                     `<nonce>@<expiry in ms> ` of each log that has ended
    k:<hash>                 `<hash of the body> <place> <nonce>` of the turn an Idempotency-Key made
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChatRef:
    """One chat of one owner, and where it is in Redis."""

    owner: str
    id: str

    @property
    def chats_key(self) -> str:
        return chats_key(self.owner)

    @property
    def key(self) -> str:
        return f"ck:{{{self.owner}}}:chat:{self.id}"

    @property
    def history_key(self) -> str:
        return f"ck:{{{self.owner}}}:history:{self.id}"

    def log_key(self, nonce: str) -> str:
        return f"ck:{{{self.owner}}}:log:{self.id}:{nonce}"


def chats_key(owner: str) -> str:
    return f"ck:{{{owner}}}:chats"
