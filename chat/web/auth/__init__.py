"""Authentication.

access.py     who the caller is: user keys, ID tokens, App Check, the admin key
idtokens.py   verifying ID tokens of a sign-in service, and App Check tokens
jwks.py       the keys that they are signed with, as their issuer publishes them
"""
