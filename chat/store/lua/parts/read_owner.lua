-- What the owner's record says about a user key, limits of the owner's own, and what is counted.
local function read_owner(record, key_hash)
  local values = redis.call('HMGET', record, 'k:' .. key_hash, 'rate_limit', 'daily_token_budget',
    'max_concurrent_turns', 'rate', 'spent', 'reserved', 'created_at')
  return {
    key = values[1], rate_limit = values[2], daily_token_budget = values[3],
    max_concurrent_turns = values[4], rate = values[5], spent = values[6], reserved = values[7],
    created_at = values[8],
  }
end
