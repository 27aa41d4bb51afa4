-- Delete a chat. A turn that is running learns of it at its next step.
--#keys chat history chats sizes logs...
-- turn: nonce of the running turn, ended_logs: the field `logs`, as the caller knows them.
--#args chat_id turn ended_logs
-- Returns {}; or {turn, ended logs} when these have changed and nothing is deleted: the caller must
-- name every log among the keys before the script runs, as a cluster demands.
--#include forget_bytes
local running, logs_field = unpack(redis.call('HMGET', chat, 'turn', 'logs'))
if (running or '') ~= turn or (logs_field or '') ~= ended_logs then
  return {running or '', logs_field or ''}
end

redis.call('DEL', chat, history, unpack(logs))
redis.call('ZREM', chats, chat_id)
forget_bytes(sizes, chat_id)
return {}
