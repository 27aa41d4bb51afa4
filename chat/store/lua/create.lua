-- Make a chat without messages.    KEYS  chat, chats    ARGV  chat_id, ttl_ms (0 = for ever)
-- Returns when it was made (ms); an existing chat stays as it is.
local made = redis.call('HGET', KEYS[1], 'created_at')
if made then
  return tonumber(made)
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], 'created_at', now, 'updated_at', now, 'message_count', 0)
redis.call('ZADD', KEYS[2], now, ARGV[1])
if ARGV[2] ~= '0' then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return now
