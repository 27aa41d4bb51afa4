-- Change a chat that exists.
-- KEYS  chat, chats, history    ARGV  chat_id, ttl_ms of the chat (0 = for ever), pairs of chat fields
-- Returns 1, or 0 when there is no such chat.
if redis.call('HEXISTS', KEYS[1], 'created_at') == 0 then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], 'updated_at', now, unpack(ARGV, 3))
redis.call('ZADD', KEYS[2], now, ARGV[1])
if ARGV[2] ~= '0' then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  redis.call('PEXPIRE', KEYS[3], ARGV[2])
end
return 1
