"""Agents in Redis: which ones are connected, and the inboxes of the instances that hold them.

An instance counts as alive as long as its inbox exists, which expires unless it is extended. A
question goes into the inbox of the instance that has the agent's socket, what the agent says into
the inbox of the one that asked. Entries of an inbox:

    k=ask    q question  a agent  i the instance that asks  x the data of the request, sealed
    k=stop   q question  a agent
    k=leave  a agent     it has connected to another instance: close its old socket
    k=<kind of an AgentReply>  q question  a agent  n index of the delta  x text, sealed
"""

import uuid
from collections.abc import Iterable
from typing import Any

import msgspec

from chat.core.messages import ChatRef
from chat.store.keyspace import inbox_key, last_seen_key, pool_key
from chat.store.store import Command, Store
from chat.store.vault import Vault

_SEALED_FOR = ChatRef("", "agents")  # no owner has an empty id
_LIVES_PINGS = 2.5
_MAX_OTHERS = 63


class LastSeen(msgspec.Struct, frozen=True):
    """When an agent last sent a heartbeat, and when it last sent a message (Unix ms)."""

    agent: str
    heartbeat_ms: int
    message_ms: int


class InboxEntry(msgspec.Struct, frozen=True):
    """An entry of an inbox; `at` is the index of a delta."""

    kind: str
    question: str
    agent: str
    sender: str
    at: int
    text: str


class Pool:
    """The agents of all instances, as this one sees them."""

    def __init__(self, store: Store, blocking: Store, vault: Vault, ping_seconds: float) -> None:
        self.instance = uuid.uuid4().hex
        self.lives_seconds = ping_seconds * _LIVES_PINGS
        self._store = store
        self._blocking = blocking
        self._vault = vault
        self._inbox = inbox_key(self.instance)
        self._read_to = "0-0"
        self._trimmed_to = "0-0"
        self._others: tuple[str, ...] = ()

    @property
    def knows_others(self) -> bool:
        """Whether a question may go to another instance, so that our inbox must be read."""
        return bool(self._others)

    def pick(
        self, question: str, data: bytes, preferred: str, excluded: str
    ) -> tuple[str, str] | None:
        """Choose an agent; a question for one of another instance is put into its inbox.

        Returns (agent, instance); ("", instance) when that instance was unknown to us, or our own
        inbox was gone: call again; None when there is no agent. `preferred` is an agent,
        `excluded` a member of the pool.
        """
        others = self._others
        reply = self._store.run(
            "pick",
            {
                "pool": pool_key(),
                "own_inbox": self._inbox,
                "inboxes": [inbox_key(instance) for instance in others],
            },
            own_instance=self.instance,
            preferred=preferred,
            excluded=excluded,
            question=question,
            data=self._vault.seal(_SEALED_FOR, data) if others else b"",
            instances=others,
        )
        if not reply:
            return None
        agent, instance = (part.decode() for part in reply)
        if instance == self.instance and not agent:
            self.open()  # it has expired, or Redis was emptied, since the last heartbeat
        elif not agent:
            self._others = (*others[-_MAX_OTHERS:], instance)
        return agent, instance

    def join(self, agent: str) -> None:
        """Put an agent of ours into the pool; an instance that had it before closes its socket."""
        keys = {"pool": pool_key()}
        for instance in self._store.run("join", keys, agent=agent, instance=self.instance):
            self.post(instance.decode(), "leave", agent)

    def leave(self, agents: Iterable[str]) -> None:
        """Take agents of ours out of the pool."""
        for agent in agents:
            member = f"{agent} {self.instance}"
            self._store.send([("ZREM", pool_key(), member)])

    def post(
        self, instance: str, kind: str, agent: str, question: str = "", at: int = 0, text: str = ""
    ) -> bool:
        """Put an entry into an instance's inbox; false when that instance is dead."""
        fields: Command = ("k", kind, "a", agent, "q", question, "n", at)
        sealed = self._vault.seal_text(_SEALED_FOR, text)
        command = ("XADD", inbox_key(instance), "NOMKSTREAM", "*", *fields, "x", sealed)
        return self._store.write([command])[0] is not None

    def is_alive(self, instance: str) -> bool:
        """Whether an instance has an inbox."""
        return bool(self._store.write([("EXISTS", inbox_key(instance))])[0])

    def open(self) -> None:
        """Open our inbox: from now on, this instance counts as alive."""
        self._store.write([("XADD", self._inbox, "*", "k", "open"), self._beat()])

    def beat(self, last_seen: list[LastSeen]) -> bool:
        """Extend the life of our inbox and report on our agents; false when the inbox is gone."""
        commands = [self._beat()]
        if last_seen:
            facts = [(s.agent, f"{s.heartbeat_ms} {s.message_ms}") for s in last_seen]
            commands.append(("HSET", last_seen_key(), *(part for pair in facts for part in pair)))
        if self._trimmed_to != self._read_to:
            commands.append(("XTRIM", self._inbox, "MINID", self._read_to))
        lived = bool(self._store.write(commands)[0])
        self._trimmed_to = self._read_to
        return lived

    def close(self) -> None:
        """Delete our inbox: from now on, this instance counts as dead."""
        self._store.write([("DEL", self._inbox)])

    def read(self, wait_seconds: float) -> list[InboxEntry]:
        """The new entries of our inbox; waits up to `wait_seconds` for the first."""
        rows = self._blocking.read_stream(self._inbox, self._read_to, int(wait_seconds * 1000))
        if rows:
            self._read_to = rows[-1][0].decode()
        return [self._read_entry(fields) for _, fields in rows if fields[b"k"] != b"open"]

    def connections(self) -> list[LastSeen]:
        """The agents of all living instances; removes what dead ones have left."""
        members, facts = self._store.write(
            [("ZRANGE", pool_key(), 0, -1), ("HGETALL", last_seen_key())]
        )
        facts = _as_dict(facts)
        agents = [member.decode().split() for member in members]
        instances = sorted({instance for _, instance in agents})
        alive = dict(zip(instances, map(self.is_alive, instances), strict=True))
        dead = [f"{agent} {instance}" for agent, instance in agents if not alive[instance]]
        living = {agent for agent, instance in agents if alive[instance]}
        self._sweep(dead, [name for name in facts if name not in living])
        return [_last_seen(agent, facts.get(agent, "0 0")) for agent, i in agents if alive[i]]

    def _sweep(self, members: list[str], agents: list[str]) -> None:
        commands: list[Command] = [("ZREM", pool_key(), member) for member in members]
        commands += [("HDEL", last_seen_key(), agent) for agent in agents]
        if commands:
            self._store.write(commands)

    def _beat(self) -> Command:
        return "PEXPIRE", self._inbox, int(self.lives_seconds * 1000)

    def _read_entry(self, fields: dict[bytes, bytes]) -> InboxEntry:
        facts = {name: fields.get(name.encode(), b"").decode() for name in "kqain"}
        text = self._vault.open_text(_SEALED_FOR, fields.get(b"x", b""))
        return InboxEntry(
            facts["k"], facts["q"], facts["a"], facts["i"], int(facts["n"] or 0), text
        )


def _as_dict(reply: Any) -> dict[str, str]:
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    return {name.decode(): value.decode() for name, value in pairs}


def _last_seen(agent: str, facts: str) -> LastSeen:
    heartbeat, message = facts.split()
    return LastSeen(agent, int(heartbeat), int(message))
