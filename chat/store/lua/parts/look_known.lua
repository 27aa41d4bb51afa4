-- The turn that a message without a key repeats, as an entry of the once hash: the newest of the
-- chat, if its request was the same, and it runs or its client left before the answer was written.
-- Of a counted retry (look_up '1'), also if it was delivered.
-- `recent`: the fingerprint of a message that has no idempotency_field.
local function repeated(latest, turn, count, is_retry)
  local body, index, nonce, state = string.match(latest or '', '^(%x+) (%d+) (%x+) ?(%a*)$')
  if body ~= recent then return false end
  local is_newest = tonumber(index) == count - 2
  if nonce == turn or (is_newest and (state == 'undelivered' or (state ~= '' and is_retry))) then
    return once_entry(body, index, nonce, 'run')
  end
  return false
end

-- The turn that a message repeats, with the keys and arguments of `begin`; false: none is known.
local function look_known(is_retry, latest, turn, count)
  if idempotency_field == '' then
    return recent ~= '' and repeated(latest, turn, count, is_retry)
  end
  return is_retry and redis.call('HGET', once, idempotency_field)
end
