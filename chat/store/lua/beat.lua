-- Extend a running turn's lease, and the life of its chat. Returns 1, or 0 when another turn, or
-- none, runs in the chat.
--#keys chat history once running
-- keep_ms 0: the chat never expires.
--#args nonce chat_id until_ms keep_ms
--#include member expire
local turn, counted = unpack(redis.call('HMGET', chat, 'turn', 'counted'))
if turn ~= nonce then
  return 0
end
redis.call('HSET', chat, 'lease', until_ms)
if (counted or '') ~= '' then
  redis.call('ZADD', running, 'XX', until_ms, member_of(chat_id, nonce, counted))
  redis.call('PEXPIRE', running, 86400000)
end
for _, key in ipairs({chat, history, once}) do expire(key, keep_ms) end
return 1
