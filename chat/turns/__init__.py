"""A turn from begin to end.

turns.py      begin, resume, stop, delete: the whole story
producer.py   drive one turn from the model to its client and into Redis
reader.py     follow a turn from any offset, on any instance
recovery.py   end a turn from outside: stop it, or settle a dead one
owners.py     an owner as a whole: usage, export, erasure
"""
