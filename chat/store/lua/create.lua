-- Make a chat without messages; a chat that exists stays as it is. Returns when it was made (ms).
--#keys chat chats
--#args chat_id ttl_ms
--#include clock expire
local created_at = redis.call('HGET', chat, 'created_at')
if created_at then
  return tonumber(created_at)
end

local now = clock()
redis.call('HSET', chat, 'created_at', now, 'updated_at', now, 'message_count', 0)
redis.call('ZADD', chats, now, chat_id)
expire(chat, ttl_ms)
return now
