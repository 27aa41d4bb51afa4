"""Who asks.

access.py     user keys, ID tokens, App Check, the admin key
idtokens.py   ID tokens of a sign-in service, and App Check
jwks.py       the keys they are signed with, as their issuer publishes them
"""
