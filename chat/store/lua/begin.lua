-- Begin a turn: check the caller and its limits, take the lease, return what the prompt is made of
-- (no messages of a chat with forks, or with many bytes), as {outcome, now, ...} (begin_reply.py).
--#keys chat history chats log once record running waiting sizes everybody?
-- It may run twice. resent '1': an attempt before this one may have been run, and what it began may
-- have been ended since. everybody: only with a budget for all owners. nonce '': only read.
--#args nonce lease_ms deadline_ms asked streamed first_title resent
--#args idempotency_field body_hash look_up recent max_bytes max_chats max_stored
-- waits '': not. expected: an ETag; '': any. keep_ms 0: for ever. must_exist 'waited': or a queue.
--#args waits max_waiting expected keep_ms must_exist chat_id key_hash reads_record
-- Limits: of an owner without its own; 0: no limit. Tokens: of the message, of the largest answer.
--#args rates daily_tokens concurrent_turns all_tokens prompt_tokens answer_tokens
--#include clock spent is_good read_owner check_rates admit etag once ended member expire
--#include queue take_place give_place_up look_known collect unseen replayed_bytes read_replay
--#include add_bytes forget_bytes over_quota take_lease

-- A command that waited in a frozen Redis must not take a lease for a caller who has given up.
local now = clock()
if now > tonumber(deadline_ms) then return {'late', now} end

-- The key first: a caller without a valid one learns nothing about the chat.
local owner = reads_record == '1' and read_owner(record, key_hash) or {}
if key_hash ~= '' and not is_good(owner.key, now) then return {'rejected', now} end
if reads_record == '1' and not owner.created_at then return {'no_record', now} end

local turn, lease, count, start, model, system, created_at, forks, agent, mark, born, ended_field,
  counted, context, queue, bytes, latest = unpack(redis.call('HMGET', chat, 'turn', 'lease',
  'message_count', 'start', 'model', 'system', 'created_at', 'forks', 'agent', 'mark', 'born',
  'ended', 'counted', 'context', 'queue', 'bytes', 'recent'))
turn, count, start, forks = turn or '', tonumber(count or 0), tonumber(start or 0), forks or ''
local is_ours = turn ~= '' and turn == nonce -- the reply to the first attempt was lost
if not is_ours then
  if was_ended(once, ended_field, nonce, resent) then return {'ended', now} end
  local known = look_known(look_up == '1', latest, turn, count)
  if known and not may_run_again(known, body_hash) then
    return {'known', now, known, created_at and 1 or 0}
  end
  local is_there = created_at or must_exist == '' or (must_exist == 'waited' and queue)
  if not is_there then return {'unknown', now} end
  if not is_expected(expected, mark, count, born) then
    return {'changed', now, count, mark or '', unseen(history, expected, mark, count, max_bytes)}
  end
end

local status = {limit = 0, remaining = 0, reset_ms = 0, cap = is_ours and cap_of(counted) or 0}
local is_new = not is_ours and nonce ~= ''
if is_new then
  status = admit(owner, everybody, running, rates, daily_tokens, concurrent_turns, all_tokens,
    tonumber(context or 0) + prompt_tokens, tonumber(answer_tokens), turn ~= '', now)
  if status.refused then return limited(status, running, now) end
  local place = take_place(chat, waiting, queue, nonce, waits, turn == '', max_waiting, now)
  if turn ~= '' or place ~= 1 then
    return {'busy', now, turn, count, turn == '' and 0 or tonumber(lease) - now, place}
  end
end
local messages = read_replay(history, forks, count, start, bytes, max_bytes)
local refused = is_new and take_lease(owner, status, created_at, messages, count, start, queue, now)
if refused then return {refused, now} end
return {'begun', now, count, start, model or '', system or '', forks, agent or '', mark or
  string.sub(nonce, 1, 8), status.cap, messages or {}, status.limit,
  math.max(0, status.remaining - 1), status.reset_ms}
