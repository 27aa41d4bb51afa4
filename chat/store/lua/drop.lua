-- End a turn that leaves nothing behind but what it used. A chat that only this turn would have
-- made vanishes with it. Returns the answer, when somebody else has ended and stored the turn.
--#keys chat history chats once log usage record running sizes everybody?
-- index, message_id: those of the answer. log_ms 0: the turn has no log. error '': delete its log.
-- state: failed, so that the message may be sent again, or rolled_back. booked: the field, when it
-- is ended from outside.
--#args nonce index message_id chat_id idempotency_field body_hash state log_ms error
--#args usage_line used_tokens booked max_stored
--#include clock spent member account stored_message once ended add_bytes held_bytes forget_bytes
local turn, counted, born, count, ended_field, queue = unpack(redis.call('HMGET', chat, 'turn',
  'counted', 'born', 'message_count', 'ended', 'queue'))
if turn ~= nonce then return stored_message(history, index, message_id) end

-- The first write takes away, which a full Redis allows: what follows it, it does not refuse.
local now = clock()
local held = held_bytes(chat, max_stored)
local ended = add_ended(ended_field, nonce, now)
local is_first = born == nonce and tonumber(count) == 0
if is_first then
  redis.call('DEL', chat)
  redis.call('ZREM', chats, chat_id)
  forget_bytes(sizes, chat_id)
  if queue then -- of messages that wait: one of them makes the chat anew
    redis.call('HSET', chat, 'queue', queue)
    redis.call('PEXPIRE', chat, 86400000)
  end
else
  redis.call('HDEL', chat, 'turn', 'lease', 'began', 'said', 'counted')
  redis.call('HSET', chat, 'ended', ended)
  add_bytes(sizes, chat_id, -held, max_stored)
  if booked ~= '' then redis.call('HSET', chat, 'booked', booked) end
end
if idempotency_field ~= '' then
  redis.call('HSET', once, idempotency_field, once_entry(body_hash, index - 1, nonce, state))
end
if is_first then outlive(once, ended) end

if error == '' then
  redis.call('DEL', log)
elseif log_ms ~= '0' then -- readers on other instances get the error from it
  redis.pcall('XADD', log, '9007199254740991-0', 'e', 'failed', 'n', 0, 'x', '', 'f', error)
  redis.call('PEXPIRE', log, log_ms)
end
local keys = {usage = usage, record = record, running = running, everybody = everybody}
account(keys, counted, chat_id, nonce, usage_line, tonumber(used_tokens), now)
return false
