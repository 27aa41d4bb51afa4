"""What a turn sees of a call, whoever answers it."""

from collections.abc import Mapping
from typing import Protocol

from chat.host.flow import Wait


class ModelCall(Protocol):
    """A call that yields the bytes of an answer, from the model API or from an agent.

    For the log: how many attempts there were, the status and request id of the last answer to one,
    and what failed last, without the server's own words, which may be a user's.
    """

    answering: bool
    attempts: int
    upstream_status: int
    upstream_failure: str

    @property
    def upstream_request_id(self) -> str: ...

    @property
    def agent(self) -> str:
        """The agent that answers; "" if none does."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The head of the response, names in lower case; {} before it has come."""

    def waits_for(self) -> Wait:
        """Readable: `read` is due then; work due: `work`, and then `read`."""

    def work(self) -> None:
        """Do what takes time, if anything is to be done."""

    def read(self) -> bytes | None:
        """What has come of the answer, at once; b"" is its end, None "nothing yet"."""

    def drain(self) -> None:
        """After the last event: leave everything in order."""

    def close(self) -> None: ...
