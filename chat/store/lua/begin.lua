-- Begin a turn: check the caller and its limits, take the lease, return what the prompt is made of
-- (no messages of a chat with forks), as {outcome, now, ...} (history.py). It may run twice.
--#keys chat history log record waiting everybody?
-- everybody: only with a budget for all owners together. nonce '': only read. deadline_ms '': none.
--#args nonce lease_ms deadline_ms asked streamed idempotency_field body_hash look_up waits
-- waits '': not. revision '': any. ttl_ms 0: never expires. Limits: by default; 0: no limit.
--#args max_waiting revision ttl_ms must_exist chat_id key_hash reads_record
--#args rates daily_tokens concurrent_turns all_tokens
--#include clock spent is_good read_owner admit count_in expire queue take_place give_place_up

-- A command that waited in a frozen Redis must not take a lease for a caller who has given up.
local now = clock()
if deadline_ms ~= '' and now > tonumber(deadline_ms) then return {'late', now} end

-- The key first: a caller without a valid one learns nothing about the chat.
local owner = reads_record == '1' and read_owner(record, key_hash) or {}
if key_hash ~= '' and not is_good(owner.key, now) then return {'rejected', now} end
if reads_record == '1' and not owner.created_at then return {'no_record', now} end

local turn, lease, count, start, model, system, known, created_at, forks, agent, field =
  unpack(redis.call('HMGET', chat, 'turn', 'lease', 'message_count', 'start', 'model', 'system',
    idempotency_field, 'created_at', 'forks', 'agent', 'queue'))
turn, count, start, forks = turn or '', tonumber(count or 0), tonumber(start or 0), forks or ''
local is_ours = turn ~= '' and turn == nonce -- the reply to the first attempt was lost

if not is_ours then
  if known and look_up == '1' then return {'known', now, known} end
  if must_exist == '1' and not created_at and turn == '' then return {'unknown', now} end
  local expected = tonumber(revision) or count
  if expected ~= count then
    local first = math.max(math.min(expected, count), count - 1000)
    return {'changed', now, count, redis.call('LRANGE', history, first, -1)}
  end
end

local status = {limit = 0, remaining = 0, reset_ms = 0}
if not is_ours and nonce ~= '' then
  local all_spent = everybody and redis.call('HGET', everybody, 'spent')
  status = admit(owner, all_spent, rates, daily_tokens, concurrent_turns, all_tokens, now)
  -- Too many turns at once do not refuse a busy chat: stopping its turn makes the room it needs.
  if status.refused and (status.refused ~= 'turns' or turn == '') then
    return {'limited', now, status.refused, status.limit, status.remaining, status.reset_ms,
      owner.running or ''}
  end
  local place = take_place(chat, waiting, field, nonce, waits, turn == '', max_waiting, now)
  if turn ~= '' or place ~= 1 then
    return {'busy', now, turn, count, turn == '' and 0 or tonumber(lease) - now, place}
  end

  redis.call('HSET', chat, 'turn', nonce, 'lease', now + lease_ms, 'began', now, 'said', asked,
    'counted', status.counted and '1' or '', unpack(idempotency_field ~= '' and
      {idempotency_field, body_hash .. ' ' .. count .. ' ' .. nonce} or {}))
  if field then give_place_up(chat, waiting, field, nonce, now) end
  count_in(record, owner, status, chat_id, nonce, now)
  if streamed == '1' then redis.call('XADD', log, '0-1', 'b', '') end
  expire(chat, ttl_ms)
end
local messages = forks == '' and count > start and redis.call('LRANGE', history, start - count, -1)
return {'begun', now, count, start, model or '', system or '', forks, agent or '', messages or {},
  status.limit, math.max(0, status.remaining - 1), status.reset_ms}
