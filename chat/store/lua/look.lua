-- Look at a chat's running turn, and at one of its messages.
-- KEYS  chat, history    ARGV  place of the message (-1 = the newest)
-- Returns {now, nonce ("" = none runs), ms left of its lease, revision, when it began, what was
-- asked, model, forks, message or ""}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local chat = redis.call('HMGET', KEYS[1], 'turn', 'lease', 'message_count', 'began', 'said', 'model', 'forks')
local turn = chat[1] or ''
local message = redis.call('LINDEX', KEYS[2], ARGV[1]) or ''
return {now, turn, turn == '' and 0 or tonumber(chat[2]) - now, tonumber(chat[3] or 0),
  tonumber(chat[4] or 0), chat[5] or '', chat[6] or '', chat[7] or '', message}
