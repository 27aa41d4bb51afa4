"""What Redis is asked about agents: who is there, and the inboxes of the instances they dialled.

An instance lives as long as its inbox, which expires unless the instance beats. A question goes into
the inbox of the instance that has the agent's socket, what the agent says into the asker's. Entries:

    k=ask    q question  a agent  i who asks  x the data of the request, sealed
    k=stop   q question  a agent
    k=leave  a agent     it has dialled another instance: close its old socket
    k=<kind of a AgentReply>   q question  a agent  n place  x text, sealed
"""

import uuid
from collections.abc import Iterable
from typing import Any

import msgspec

from chat.core.messages import ChatRef
from chat.store.keyspace import POOL_KEY, SEEN_KEY, inbox_key
from chat.store.store import Command, Store
from chat.store.vault import Vault

_SEALED_FOR = ChatRef("", "agents")  # no owner has this name
_LIVES_PINGS = 2.5
_MAX_OTHERS = 63


class LastSeen(msgspec.Struct, frozen=True):
    """When an agent last gave a sign of life, and when it last said something (Unix ms)."""

    agent: str
    heartbeat_ms: int
    message_ms: int


class InboxEntry(msgspec.Struct, frozen=True):
    """An entry of an inbox."""

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
        """Whether a question may have to go to another instance."""
        return bool(self._others)

    def pick(self, question: str, data: bytes, wish: str, without: str) -> tuple[str, str] | None:
        """Choose an agent, and hand over the question if it is another instance's: (agent, instance).

        ("", instance): we had not heard of that one, or our inbox was gone; ask again. None: no agent.
        """
        others = self._others
        sealed = self._vault.seal(_SEALED_FOR, data) if others else b""
        reply = self._store.run(
            "pick",
            [POOL_KEY, self._inbox, *map(inbox_key, others)],
            *(self.instance, wish, without, question),
            sealed,
            *others,
        )
        if not reply:
            return None
        agent, instance = (part.decode() for part in reply)
        if instance == self.instance and not agent:
            self.open()  # Redis has forgotten us since the last beat
        elif not agent:
            self._others = (*others[-_MAX_OTHERS:], instance)
        return agent, instance

    def join(self, agent: str) -> None:
        """Put an agent of ours into the pool; where it was before, its socket is closed."""
        for instance in self._store.run("join", [POOL_KEY], agent, self.instance):
            self.post(instance.decode(), "leave", agent)

    def leave(self, agents: Iterable[str]) -> None:
        for agent in agents:
            member = f"{agent} {self.instance}"
            self._store.send([("ZREM", POOL_KEY, member)])

    def post(
        self, instance: str, kind: str, agent: str, question: str = "", at: int = 0, text: str = ""
    ) -> bool:
        """Put something into an instance's inbox; false when it is dead."""
        fields: Command = ("k", kind, "a", agent, "q", question, "n", at)
        sealed = self._vault.seal_text(_SEALED_FOR, text)
        command = ("XADD", inbox_key(instance), "NOMKSTREAM", "*", *fields, "x", sealed)
        return self._store.write([command])[0] is not None

    def is_alive(self, instance: str) -> bool:
        return bool(self._store.write([("EXISTS", inbox_key(instance))])[0])

    def open(self) -> None:
        """Live, from now on."""
        self._store.write([("XADD", self._inbox, "*", "k", "open"), self._beat()])

    def beat(self, seen: list[LastSeen]) -> bool:
        """Live on; false when we had been taken for dead, or Redis has forgotten us."""
        commands = [self._beat()]
        if seen:
            facts = [(s.agent, f"{s.heartbeat_ms} {s.message_ms}") for s in seen]
            commands.append(("HSET", SEEN_KEY, *(part for pair in facts for part in pair)))
        if self._trimmed_to != self._read_to:
            commands.append(("XTRIM", self._inbox, "MINID", self._read_to))
        lived = bool(self._store.write(commands)[0])
        self._trimmed_to = self._read_to
        return lived

    def close(self) -> None:
        """Die."""
        self._store.write([("DEL", self._inbox)])

    def read(self, wait_seconds: float) -> list[InboxEntry]:
        """What has come; waits for the first, but not longer than told."""
        rows = self._blocking.read_stream(self._inbox, self._read_to, int(wait_seconds * 1000))
        if rows:
            self._read_to = rows[-1][0].decode()
        return [self._letter(fields) for _, fields in rows if fields[b"k"] != b"open"]

    def connections(self) -> list[LastSeen]:
        """The agents of all living instances; what is left of dead ones is removed."""
        members, facts = self._store.write([("ZRANGE", POOL_KEY, 0, -1), ("HGETALL", SEEN_KEY)])
        facts = _as_dict(facts)
        agents = [member.decode().split() for member in members]
        instances = sorted({instance for _, instance in agents})
        alive = dict(zip(instances, map(self.is_alive, instances), strict=True))
        dead = [f"{agent} {instance}" for agent, instance in agents if not alive[instance]]
        living = {agent for agent, instance in agents if alive[instance]}
        self._sweep(dead, [name for name in facts if name not in living])
        return [_seen(agent, facts.get(agent, "0 0")) for agent, i in agents if alive[i]]

    def _sweep(self, members: list[str], agents: list[str]) -> None:
        commands: list[Command] = [("ZREM", POOL_KEY, member) for member in members]
        commands += [("HDEL", SEEN_KEY, agent) for agent in agents]
        if commands:
            self._store.write(commands)

    def _beat(self) -> Command:
        return "PEXPIRE", self._inbox, int(self.lives_seconds * 1000)

    def _letter(self, fields: dict[bytes, bytes]) -> InboxEntry:
        facts = {name: fields.get(name.encode(), b"").decode() for name in "kqain"}
        text = self._vault.open_text(_SEALED_FOR, fields.get(b"x", b""))
        return InboxEntry(
            facts["k"], facts["q"], facts["a"], facts["i"], int(facts["n"] or 0), text
        )


def _as_dict(reply: Any) -> dict[str, str]:
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    return {name.decode(): value.decode() for name, value in pairs}


def _seen(agent: str, facts: str) -> LastSeen:
    heartbeat, message = facts.split()
    return LastSeen(agent, int(heartbeat), int(message))
