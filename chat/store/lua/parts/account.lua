-- Book what a turn used: a line of usage ("" = it used nothing) and, of a turn whose end is counted,
-- the tokens of its owner and of everybody; it is no running turn any more.
-- Returns how many lines there are.
local function account(keys, counted, nonce, line, tokens, now)
  if counted == '1' then
    local owner = redis.call('HMGET', keys.record, 'spent', 'running')
    local running = string.gsub(owner[2] or '', '[^ ]*@' .. nonce .. '@%d+ ', '')
    redis.call('HSET', keys.record, 'spent', spend(owner[1], tokens, now), 'running', running)
    if keys.everybody then
      local all = redis.call('HGET', keys.everybody, 'spent')
      redis.call('HSET', keys.everybody, 'spent', spend(all, tokens, now))
    end
  end
  return line ~= '' and redis.call('RPUSH', keys.usage, line) or 0
end
