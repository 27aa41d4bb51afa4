-- Change a chat that exists.    KEYS  chat, chats    ARGV  chat_id, pairs of chat fields
-- Returns 1, or 0 when there is no such chat.
if redis.call('HEXISTS', KEYS[1], 'created_at') == 0 then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], 'updated_at', now, unpack(ARGV, 2))
redis.call('ZADD', KEYS[2], now, ARGV[1])
return 1
