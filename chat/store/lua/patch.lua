-- Change a chat. Returns 1, or 0 when there is no such chat.
--#keys chat chats history
-- ttl_ms 0: the chat never expires. fields: names and values in turn.
--#args chat_id ttl_ms fields...
--#include clock expire
if redis.call('HEXISTS', chat, 'created_at') == 0 then
  return 0
end

local now = clock()
redis.call('HSET', chat, 'updated_at', now, unpack(fields))
redis.call('ZADD', chats, now, chat_id)
expire(chat, ttl_ms)
expire(history, ttl_ms)
return 1
