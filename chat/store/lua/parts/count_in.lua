-- Count a turn that begins in its owner's record; `status` is what `admit` returned.
local function count_in(record, owner, status, chat_id, nonce, now)
  if status.rates == '' and not status.counted then return end
  local turn = status.counted and string.format('%s@%s@%d ', chat_id, nonce, now) or ''
  redis.call('HSET', record, 'rate', status.rates, 'running', (owner.running or '') .. turn)
end
