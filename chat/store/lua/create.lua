-- Make a chat without messages; a chat that exists stays as it is. Returns {when it was made (ms)};
-- the quota that forbids it, {'chats'} or {'bytes'}; or {'late', now}.
--#keys chat chats sizes
--#args chat_id mark ttl_ms deadline_ms max_chats max_stored
--#include clock expire add_bytes forget_bytes over_quota
local now = clock()
if now > tonumber(deadline_ms) then return {'late', now} end
local created_at = redis.call('HGET', chat, 'created_at')
if created_at then
  return {tonumber(created_at)}
end

local over = over_quota(chats, sizes, true, 512, max_chats, max_stored)
if over then return {over} end
redis.call('HSET', chat, 'created_at', now, 'updated_at', now, 'message_count', 0, 'mark', mark)
redis.call('ZADD', chats, now, chat_id)
if max_stored ~= '0' then forget_bytes(sizes, chat_id) end -- of one that expired
add_bytes(sizes, chat_id, 512, max_stored)
expire(chat, ttl_ms)
return {now}
