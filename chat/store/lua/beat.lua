-- Extend a running turn's lease. Returns 1, or 0 when another turn, or none, runs in the chat.
--#keys chat
--#args nonce until_ms
if redis.call('HGET', chat, 'turn') ~= nonce then
  return 0
end
redis.call('HSET', chat, 'lease', until_ms)
return 1
