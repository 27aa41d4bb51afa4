-- Book what a turn used: a line of usage ('' = it used nothing) and, for a turn that is counted,
-- the tokens of its owner and of all owners; what it had reserved is free, and it runs no longer.
-- Returns the number of lines of usage.
local function account(keys, counted, chat_id, nonce, line, tokens, now)
  local lines = line ~= '' and redis.call('RPUSH', keys.usage, line) or 0
  if (counted or '') ~= '' then
    local held, day = string.match(counted, '^(%d+) (%d+)')
    for _, key in ipairs({keys.record, keys.everybody}) do
      local spent, reserved = unpack(redis.call('HMGET', key, 'spent', 'reserved'))
      redis.call('HSET', key, 'spent', spend(spent, tokens, now),
        'reserved', unreserve(reserved, held, day))
    end
    redis.call('ZREM', keys.running, member_of(chat_id, nonce, counted))
  end
  return lines
end
