-- Replace what was asked of a running turn, once it is known where in the chat it belongs.
--#keys chat
--#args nonce asked
if redis.call('HGET', chat, 'turn') == nonce then redis.call('HSET', chat, 'said', asked) end
