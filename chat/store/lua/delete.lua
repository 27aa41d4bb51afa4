-- Delete a chat. A running turn finds itself gone at its next step.
-- KEYS  chat, history, chats, logs...    ARGV  chat_id, nonce of the running turn, ended logs
-- Returns {}, or {nonce, ended logs} when these are others by now: nothing is deleted then, because
-- every key must be named before a script runs.
local chat = redis.call('HMGET', KEYS[1], 'turn', 'logs')
if (chat[1] or '') ~= ARGV[2] or (chat[2] or '') ~= ARGV[3] then
  return {chat[1] or '', chat[2] or ''}
end
redis.call('DEL', KEYS[1], KEYS[2], unpack(KEYS, 4))
redis.call('ZREM', KEYS[3], ARGV[1])
return {}
