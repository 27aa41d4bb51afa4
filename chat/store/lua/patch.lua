-- Change a chat. Returns 1; 0 when there is no such chat; 'bytes' over the quota.
--#keys chat chats history sizes
-- ttl_ms 0: the chat never expires. fields: names and values in turn.
--#args chat_id ttl_ms max_stored fields...
--#include clock expire add_bytes over_quota growth
if redis.call('HEXISTS', chat, 'created_at') == 0 then
  return 0
end

local bytes = growth(chat, fields, max_stored)
if bytes > 0 and over_quota(chats, sizes, false, bytes, '0', max_stored) then return 'bytes' end
local now = clock()
redis.call('HSET', chat, 'updated_at', now, unpack(fields))
redis.call('ZADD', chats, now, chat_id)
add_bytes(sizes, chat_id, bytes, max_stored)
expire(chat, ttl_ms)
expire(history, ttl_ms)
return 1
