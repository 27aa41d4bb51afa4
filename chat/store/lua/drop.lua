-- End a turn that leaves nothing behind but what it used. A chat that only this turn would have
-- made vanishes with it. Returns the answer, when somebody else has ended and stored the turn.
--#keys chat history chats log usage record sizes everybody?
-- index, message_id: those of the answer. log_ms 0: the turn has no log. error '': delete its log.
--#args nonce index message_id chat_id idempotency_field log_ms error usage_line used_tokens
--#args max_stored
--#include clock spent account stored_message add_bytes held_bytes forget_bytes

local turn, counted, created_at = unpack(redis.call('HMGET', chat, 'turn', 'counted', 'created_at'))
if turn ~= nonce then return stored_message(history, index, message_id) end

if created_at then
  add_bytes(sizes, chat_id, -held_bytes(chat, max_stored), max_stored)
else
  redis.call('ZREM', chats, chat_id)
  forget_bytes(sizes, chat_id)
end
-- Without its idempotency key, so that the client may send the message again.
redis.call('HDEL', chat, 'turn', 'lease', 'began', 'said', 'counted', idempotency_field)
if error == '' then
  redis.call('DEL', log)
elseif log_ms ~= '0' then -- readers on other instances get the error from it
  redis.call('XADD', log, '9007199254740991-0', 'e', 'failed', 'n', 0, 'x', '', 'f', error)
  redis.call('PEXPIRE', log, log_ms)
end

local keys = {usage = usage, record = record, everybody = everybody}
account(keys, counted, nonce, usage_line, tonumber(used_tokens), clock())
return false
