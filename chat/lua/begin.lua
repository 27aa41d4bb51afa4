-- Begin a turn: take the lease, and return what the prompt is made of.
-- KEYS  chat, history    ARGV  nonce, lease_ms, deadline_ms ("" = none)
-- Returns {"begun", now, revision, start, model, system, messages}, {"busy", now, nonce, revision}
-- or {"late", now}: the caller has given up, and told its client so.
-- Running it twice is the same as once: the nonce is known then.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[3] ~= '' and now > tonumber(ARGV[3]) then
  return {'late', now}
end
local chat = redis.call('HMGET', KEYS[1], 'turn', 'lease', 'message_count', 'start', 'model', 'system')
local turn, lease = chat[1] or '', tonumber(chat[2] or '') or 0
local count, start = tonumber(chat[3] or 0), tonumber(chat[4] or 0)
if turn ~= '' and turn ~= ARGV[1] and lease > now then
  return {'busy', now, turn, count}
end
redis.call('HSET', KEYS[1], 'turn', ARGV[1], 'lease', now + ARGV[2])
local messages = {}
if count > start then
  messages = redis.call('LRANGE', KEYS[2], start - count, -1)
end
return {'begun', now, count, start, chat[5] or '', chat[6] or '', messages}
