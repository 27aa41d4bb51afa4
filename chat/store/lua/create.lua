-- Make a chat without messages; a chat that exists stays as it is. Returns {when it was made (ms)},
-- or {'late', now}.
--#keys chat chats
--#args chat_id mark ttl_ms deadline_ms
--#include clock expire
local now = clock()
if now > tonumber(deadline_ms) then return {'late', now} end
local created_at = redis.call('HGET', chat, 'created_at')
if created_at then
  return {tonumber(created_at)}
end

redis.call('HSET', chat, 'created_at', now, 'updated_at', now, 'message_count', 0, 'mark', mark)
redis.call('ZADD', chats, now, chat_id)
expire(chat, ttl_ms)
return {now}
