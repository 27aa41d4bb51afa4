"""The model API: a call is attempts with pauses between them, then the bytes of an answer.

upstream.py     one provider: its address, headers, and what is known of its models
model_call.py   what a turn sees of a call
call.py         one call: sending, retries, refusals, reading; never blocks but in `work`
retries.py      when a refusal is tried again, and after which pause
address.py      a base URL taken apart
connections.py  connections, kept and used again; through a proxy
google.py       tokens of Google's metadata server
"""

from chat.models.upstream.call import Call
from chat.models.upstream.model_call import ModelCall
from chat.models.upstream.upstream import Upstream

__all__ = ["Call", "ModelCall", "Upstream"]
