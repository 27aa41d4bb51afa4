-- Delete a chat, and account for its running turn, if that is the one whose log the caller closed.
-- Returns {'running', nonce} when it is another one, and nothing is deleted; else {'deleted', logs
-- of ended turns as in the field `logs`}, which the caller deletes; or {'late', now}.
--#keys chat history chats once log usage record running sizes everybody?
-- closed: nonce of the running turn ('' = none).
--#args chat_id closed deadline_ms usage_line used_tokens
--#include clock spent member account ended forget_bytes
local now = clock()
if now > tonumber(deadline_ms) then return {'late', now} end
local turn, counted, ended_field, logs = unpack(redis.call('HMGET', chat, 'turn', 'counted',
  'ended', 'logs'))
turn = turn or ''
if turn ~= '' and turn ~= closed then return {'running', turn} end

-- The first write takes away, which a full Redis allows: what follows it, it does not refuse.
redis.call('DEL', chat, history, log)
redis.call('ZREM', chats, chat_id)
forget_bytes(sizes, chat_id)
if turn ~= '' then
  ended_field = add_ended(ended_field, turn, now)
  local keys = {usage = usage, record = record, running = running, everybody = everybody}
  account(keys, counted, chat_id, turn, usage_line, tonumber(used_tokens), now)
end
if ended_field then outlive(once, ended_field) end
return {'deleted', logs or ''}
