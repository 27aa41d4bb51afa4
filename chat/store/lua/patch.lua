-- Change a chat. Returns {1}; {0} when there is no such chat; {'bytes'} over the quota; or
-- {'late', now}.
--#keys chat chats history once sizes
-- ttl_ms 0: the chat never expires. fields: names and values in turn.
--#args chat_id ttl_ms deadline_ms max_stored fields...
--#include clock expire add_bytes over_quota growth
local now = clock()
if now > tonumber(deadline_ms) then return {'late', now} end
if redis.call('HEXISTS', chat, 'created_at') == 0 then
  return {0}
end
local bytes = growth(chat, fields, max_stored)
if bytes > 0 and over_quota(chats, sizes, false, bytes, '0', max_stored) then return {'bytes'} end

-- Not born of its running turn any more: it stays, whatever becomes of that.
redis.call('HSET', chat, 'updated_at', now, 'born', '', unpack(fields))
redis.call('ZADD', chats, now, chat_id)
add_bytes(sizes, chat_id, bytes, max_stored)
for _, key in ipairs({chat, history, once}) do expire(key, ttl_ms) end
return {1}
