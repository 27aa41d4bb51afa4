-- Book what a turn used: a line of usage ('' = it used nothing) and, for a turn whose end is
-- counted, the tokens of its owner and of all owners; it no longer counts as running.
-- Returns the number of lines of usage.
local function account(keys, counted, nonce, line, tokens, now)
  if counted == '1' then
    local spent, running = unpack(redis.call('HMGET', keys.record, 'spent', 'running'))
    running = string.gsub(running or '', '[^ ]*@' .. nonce .. '@%d+ ', '')
    redis.call('HSET', keys.record, 'spent', spend(spent, tokens, now), 'running', running)
    if keys.everybody then
      local all = redis.call('HGET', keys.everybody, 'spent')
      redis.call('HSET', keys.everybody, 'spent', spend(all, tokens, now))
    end
  end
  return line ~= '' and redis.call('RPUSH', keys.usage, line) or 0
end
