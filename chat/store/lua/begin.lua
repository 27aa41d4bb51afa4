-- Begin a turn: check the caller and its limits, take the lease, return what the prompt is made of
-- (no messages of a chat with forks). Twice is once. Returns {outcome, now, ...}: see history.py.
-- KEYS  chat, history, log, the owner's record, everybody (only with a budget of all)
-- ARGV  nonce ("" = only look), lease_ms, deadline_ms ("" = none), what was asked, "1" when streamed,
--       idempotency field, hash of the body, "1" to look that field up, expected revision ("" = any),
--       ttl_ms of the chat (0 = for ever), "1" when the chat must exist, chat_id, hash of the user
--       key, "1" to read the record; limits: rates, tokens a day, turns at once, tokens of all
--#include clock spent good admit
local now = clock()
if ARGV[3] ~= '' and now > tonumber(ARGV[3]) then return {'late', now} end
local owner = ARGV[14] == '1' and redis.call('HMGET', KEYS[4], 'k:' .. ARGV[13], 'rate_limit',
  'daily_token_budget', 'max_concurrent_turns', 'rate', 'spent', 'running', 'created_at') or {}
if ARGV[13] ~= '' and not is_good(owner[1], now) then return {'rejected', now} end
if ARGV[14] == '1' and not owner[8] then return {'stranger', now} end
local chat = redis.call('HMGET', KEYS[1], 'turn', 'lease', 'message_count', 'start', 'model', 'system', ARGV[6], 'created_at', 'forks', 'agent')
local turn, count, start = chat[1] or '', tonumber(chat[3] or 0), tonumber(chat[4] or 0)
local limit, rest, reset = 0, 0, 0
if turn == '' or turn ~= ARGV[1] then
  if chat[7] and ARGV[8] == '1' then return {'known', now, chat[7]} end
  if ARGV[11] == '1' and not chat[8] and turn == '' then return {'unknown', now} end
  local expected = tonumber(ARGV[9]) or count
  if expected ~= count then return {'changed', now, count, redis.call('LRANGE', KEYS[2], math.max(math.min(expected, count), count - 1000), -1)} end
  if ARGV[1] ~= '' then
    local all = KEYS[5] and redis.call('HGET', KEYS[5], 'spent')
    local most = {rates = ARGV[15], budget = ARGV[16], turns = ARGV[17], all = tonumber(ARGV[18])}
    local refused, rates, counted
    refused, limit, rest, reset, rates, counted = admit(owner, all, most, now)
    if refused and (refused ~= 'turns' or turn == '') then return {'limited', now, refused, limit, rest, reset, owner[7] or ''} end
    if turn ~= '' then return {'busy', now, turn, count, tonumber(chat[2]) - now} end
    redis.call('HSET', KEYS[1], 'turn', ARGV[1], 'lease', now + ARGV[2], 'began', now, 'said', ARGV[4], 'counted', counted and '1' or '',
      unpack(ARGV[6] ~= '' and {ARGV[6], ARGV[7] .. ' ' .. count .. ' ' .. ARGV[1]} or {}))
    local running = counted and string.format('%s@%s@%d ', ARGV[12], ARGV[1], now) or ''
    if rates ~= '' or counted then redis.call('HSET', KEYS[4], 'rate', rates, 'running', (owner[7] or '') .. running) end
    if ARGV[5] == '1' then redis.call('XADD', KEYS[3], '0-1', 'b', '') end
    if ARGV[10] ~= '0' then redis.call('PEXPIRE', KEYS[1], ARGV[10]) end
  end
end
local forks = chat[9] or ''
local messages = count > start and forks == '' and redis.call('LRANGE', KEYS[2], start - count, -1) or {}
return {'begun', now, count, start, chat[5] or '', chat[6] or '', forks, chat[10] or '', messages, limit, math.max(0, rest - 1), reset}
