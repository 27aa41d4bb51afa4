"""The reference agent: connects to a function and answers its questions with a model of yours.

    AGENT_KEY=... python -m chat.models.agents --server wss://host \\
        --upstream http://localhost:11434/v1 --model NAME

The model may be any OpenAI-compatible server that this machine can reach; the agent itself accepts
no connections. It prints one line per question, never any content.
"""

import argparse
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import msgspec
import simple_websocket

from chat.core.answer import Answer
from chat.core.completions import ChatRequest, PromptMessage
from chat.core.errors import ChatkeepError
from chat.core.events import Delta, Event
from chat.core.http1 import ProtocolError
from chat.host.flow import wait_for
from chat.models.agents import wire
from chat.models.upstream import ModelCall, Upstream

_SERVER_SILENCE_SECONDS = 90.0  # it pings every 20, at most every 60 seconds
_MODEL_SILENCE_SECONDS = 600.0
_STEP_SECONDS = 0.5
_FIRST_PAUSE_SECONDS = 0.5
_MAX_PAUSE_SECONDS = 30.0
_FINAL = frozenset((400, 401, 403, 404))


class Refused(Exception):
    """The server rejects this agent for good; trying again is useless."""


class _Daemon(threading.Thread):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options, daemon=True)


class Socket(simple_websocket.Client):  # type: ignore[misc]
    """The library's client, safe for several sending threads."""

    def handshake(self) -> None:
        self._sending = threading.Lock()
        super().handshake()
        self.connected = self._handle_events()  # the first message may have come with the handshake

    def send(self, data: str) -> None:
        with self._sending:
            super().send(data)


class Agent:
    """One agent: `run` stays connected until `stop`."""

    def __init__(
        self,
        url: str,
        key: str,
        upstream: Upstream,
        model: str,
        *,
        at_once: int,
        agent_id: str = "",
    ) -> None:
        self.id = agent_id
        self._url = url
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._upstream = upstream
        self._model = model
        self._workers = ThreadPoolExecutor(at_once, "question")
        self._stopped = threading.Event()

    def run(self) -> None:
        """Raises Refused."""
        pause = _FIRST_PAUSE_SECONDS
        while not self._stopped.is_set():
            try:
                socket = self._dial()
                pause = _FIRST_PAUSE_SECONDS
                self._serve(socket)
            except (OSError, simple_websocket.ConnectionError) as problem:
                _print(f"no connection: {problem}")
            except simple_websocket.ConnectionClosed as closed:
                _print(f"disconnected: {closed.message or closed.reason}")
            self._stopped.wait(pause * random.uniform(0.75, 1.25))
            pause = min(pause * 2, _MAX_PAUSE_SECONDS)

    def stop(self) -> None:
        """Take no more questions and wait for those being answered."""
        self._stopped.set()
        self._workers.shutdown(wait=True, cancel_futures=True)

    def _dial(self) -> Socket:
        try:
            return Socket(self._url, headers=self._headers, thread_class=_Daemon)
        except simple_websocket.ConnectionError as problem:
            if problem.status_code in _FINAL:
                reason = f"{self._url} refuses this agent: {problem.status_code}"
                raise Refused(reason) from problem
            raise

    def _serve(self, socket: Socket) -> None:
        try:
            while not self._stopped.is_set():
                text = socket.receive(timeout=_SERVER_SILENCE_SECONDS)
                if text is None:
                    raise OSError("the server sends nothing")
                self._answer(socket, wire.read(text))
        finally:
            socket.connected and socket.close(1001, "")

    def _answer(self, socket: Socket, message: wire.Message) -> None:
        if message.message == wire.CONNECTION:
            self.id = self.id or message.id
            socket.send(wire.write(self.id, wire.CONNECTION))
            _print(f"connected as {self.id}")
        elif message.message == wire.PING:
            socket.send(wire.write(message.id, wire.PONG))
        elif message.message == wire.REQUEST:
            self._workers.submit(self._work, socket, message)

    def _work(self, socket: Socket, message: wire.Message) -> None:
        began = time.monotonic()
        try:
            text = self._ask(wire.read_question(message), _delta_sender(socket, message.id), socket)
            socket.send(_response(message, text))
            outcome = f"{len(text)} characters"
        except (ChatkeepError, wire.BadMessage) as error:
            outcome = f"failed: {error}"
            _send(socket, wire.write(message.id, wire.ERROR, str(error), error=str(error)))
        except (OSError, simple_websocket.ConnectionClosed):
            outcome = "the connection was lost"
        except Exception as problem:
            outcome = f"failed: {problem!r}"
            _send(socket, wire.write(message.id, wire.ERROR, "The agent failed."))
        _print(f"question {message.id[:8]}: {outcome} in {time.monotonic() - began:.1f} s")

    def _ask(self, question: wire.Question, send: Callable[[str], None], socket: Socket) -> str:
        """Ask the model; `send` gets each piece as it comes, and all of it is returned."""
        call = self._upstream.call(self._request(question))
        turn = Answer(
            stream=True,
            keepalive_seconds=_MODEL_SILENCE_SECONDS,
            now=time.monotonic(),
            secrets=self._upstream.secrets,
        )
        try:
            while not turn.ending:
                if self._stopped.is_set() or not socket.connected:
                    raise OSError
                wait_for(call.waits_for(), _STEP_SECONDS)
                call.work()
                events = _read(call, turn)
                text = "".join(event.text for event in events if isinstance(event, Delta))
                if text and question.stream:
                    send(text)
        finally:
            call.drain()
        if turn.error:
            raise turn.error
        return turn.text

    def _request(self, question: wire.Question) -> ChatRequest:
        asked = question.messages or [{"role": "user", "content": question.content}]
        return ChatRequest(
            self._model,
            msgspec.json.decode(msgspec.json.encode(asked), type=list[PromptMessage]),
            stream=True,
            temperature=question.temperature,
            max_tokens=question.max_tokens,
        )


def _read(call: ModelCall, turn: Answer) -> list[Event]:
    """What has come of the answer by now."""
    try:
        piece = call.read()
    except ProtocolError:
        return turn.upstream_ended(cut=True)
    if piece is None:
        return turn.tick(time.monotonic())
    return turn.receive(piece, time.monotonic()) if piece else turn.upstream_ended()


def _delta_sender(socket: Socket, question: str) -> Callable[[str], None]:
    return lambda text: socket.send(wire.write(question, wire.DELTA, text))


def _response(message: wire.Message, text: str) -> str:
    conversation = wire.read_question(message).conversation_id
    return wire.write(message.id, wire.RESPONSE, wire.write_answer(text, message.id, conversation))


def _send(socket: Socket, text: str) -> None:
    try:
        socket.send(text)
    except (OSError, simple_websocket.ConnectionClosed):
        pass


def _print(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, flush=True)


def register_url(server: str) -> str:
    """The URL that agents connect to; `server` is a URL or a bare host name."""
    scheme, found, rest = server.rstrip("/").partition("://")
    if not found:
        scheme, rest = "wss", server.rstrip("/")
    scheme = {"http": "ws", "https": "wss"}.get(scheme, scheme)
    path = "" if urlsplit(f"{scheme}://{rest}").path else "/client/register"
    return f"{scheme}://{rest}{path}"


def _options() -> argparse.Namespace:
    options = argparse.ArgumentParser(
        prog="python -m chat.models.agents", description=__doc__.split("\n")[0]
    )
    options.add_argument("--server", required=True, help="the function: wss://host")
    options.add_argument(
        "--key", default=os.environ.get("AGENT_KEY", ""), help="default: AGENT_KEY"
    )
    options.add_argument("--upstream", required=True, help="http://localhost:11434/v1 for Ollama")
    options.add_argument(
        "--upstream-key", default=os.environ.get("GPT_API_KEY", ""), help="default: GPT_API_KEY"
    )
    options.add_argument("--model", required=True)
    options.add_argument(
        "--id", default="", help="the id of an earlier connection; default: a new one"
    )
    options.add_argument(
        "--at-once", type=int, default=4, help="how many questions it answers at once"
    )
    return options.parse_args()


def main() -> int:
    """Connect, and answer until SIGTERM or Ctrl-C."""
    options = _options()
    upstream = Upstream(options.upstream, options.upstream_key, _MODEL_SILENCE_SECONDS)
    url = register_url(options.server)
    agent = Agent(
        url, options.key, upstream, options.model, at_once=options.at_once, agent_id=options.id
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        agent.run()
    except Refused as refusal:
        _print(str(refusal))
        return 1
    except KeyboardInterrupt:
        _print("stopped")
    finally:
        agent.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
