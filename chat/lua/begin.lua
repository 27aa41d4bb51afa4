-- Begin a turn: take the lease, and return what the prompt is made of (no messages of a chat that
-- has forks: the caller asks for the branch it wants).
-- KEYS  chat, history, log
-- ARGV  nonce ("" = only look), lease_ms, deadline_ms ("" = none), what was asked, "1" when
--       streamed, idempotency field, hash of the body, "1" when that field is to be looked up,
--       revision the caller expects ("" = any), ttl_ms of the chat (0 = for ever), "1" when the chat
--       must exist
-- Returns {"begun", now, revision, start, model, system, forks, messages}; {"late", now}: the caller has
-- given up; {"known", now, entry}: this key has been used; {"unknown", now}: no such chat; {"changed",
-- now, revision, messages since};
-- or {"busy", now, nonce, revision, ms left of the lease}. Twice is once: the nonce is known then.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[3] ~= '' and now > tonumber(ARGV[3]) then
  return {'late', now}
end
local chat = redis.call('HMGET', KEYS[1], 'turn', 'lease', 'message_count', 'start', 'model', 'system', ARGV[6], 'created_at', 'forks')
local turn, count, start = chat[1] or '', tonumber(chat[3] or 0), tonumber(chat[4] or 0)
if turn == '' or turn ~= ARGV[1] then
  if chat[7] and ARGV[8] == '1' then return {'known', now, chat[7]} end
  if ARGV[11] == '1' and not chat[8] and turn == '' then return {'unknown', now} end
  local expected = tonumber(ARGV[9]) or count
  if expected ~= count then
    return {'changed', now, count, redis.call('LRANGE', KEYS[2], math.max(math.min(expected, count), count - 1000), -1)}
  end
  if turn ~= '' and ARGV[1] ~= '' then
    return {'busy', now, turn, count, tonumber(chat[2]) - now}
  end
  if ARGV[1] ~= '' then
    local entry = ARGV[7] .. ' ' .. count .. ' ' .. ARGV[1]
    redis.call('HSET', KEYS[1], 'turn', ARGV[1], 'lease', now + ARGV[2], 'began', now, 'said', ARGV[4],
      unpack(ARGV[6] ~= '' and {ARGV[6], entry} or {}))
    if ARGV[5] == '1' then redis.call('XADD', KEYS[3], '0-1', 'b', '') end
    if ARGV[10] ~= '0' then redis.call('PEXPIRE', KEYS[1], ARGV[10]) end
  end
end
local forks = chat[9] or ''
local messages = count > start and forks == '' and redis.call('LRANGE', KEYS[2], start - count, -1) or {}
return {'begun', now, count, start, chat[5] or '', chat[6] or '', forks, messages}
