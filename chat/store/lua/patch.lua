-- Change a chat. Returns {1}, {0} when there is no such chat, or {'late', now}.
--#keys chat chats history once
-- ttl_ms 0: the chat never expires. fields: names and values in turn.
--#args chat_id ttl_ms deadline_ms fields...
--#include clock expire
local now = clock()
if now > tonumber(deadline_ms) then return {'late', now} end
if redis.call('HEXISTS', chat, 'created_at') == 0 then
  return {0}
end

-- Not born of its running turn any more: it stays, whatever becomes of that.
redis.call('HSET', chat, 'updated_at', now, 'born', '', unpack(fields))
redis.call('ZADD', chats, now, chat_id)
for _, key in ipairs({chat, history, once}) do expire(key, ttl_ms) end
return {1}
