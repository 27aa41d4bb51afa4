"""A turn from begin to end.

turns.py      begin, resume, stop, delete: the whole story
leases.py     the lease of a chat, and what is dead and in its way
prompts.py    what a turn continues, and the prompt that is made of it
placement.py  where a turn belongs whose client may have resent the conversation
items.py      entries added to a chat, or taken from it, without asking the model
plan.py       what is decided about a turn before the model is called
refusals.py   why a turn is refused
producer.py   one turn, from the model to its client and into Redis   (a flow)
asking.py     one model after the other is asked, until one answers
waiting.py    a message while its chat is busy                           (a flow)
following.py  find the turn to follow, and where to go on
reader.py     a turn as followed from any offset, on any instance      (a flow)
report.py     what the log and traces say of it
events.py     their first and last event
recovery.py   end a turn from outside: stop it, or settle a dead one
owners.py     an owner as a whole: usage, export, erasure
"""
