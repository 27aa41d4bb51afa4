"""Authentication.

access.py     who the caller is: user keys, ID tokens, App Check, the admin key
local.py      whether a request comes from this machine itself
attempts.py   how often one may be wrong about a key
idtokens.py   verifying ID tokens of a sign-in service, and App Check tokens
jwks.py       the keys that they are signed with, as their issuer publishes them
"""
