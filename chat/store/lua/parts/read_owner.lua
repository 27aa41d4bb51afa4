-- What the owner's record says about a user key, limits of the owner's own, and what is counted.
local function read_owner(record, key_hash)
  local names = {'rate_limit', 'daily_token_budget', 'max_concurrent_turns', 'rate', 'spent',
    'running', 'created_at', 'k:' .. key_hash}
  local owner = {}
  for i, value in ipairs(redis.call('HMGET', record, unpack(names))) do
    owner[names[i]] = value
  end
  owner.key = owner['k:' .. key_hash]
  return owner
end
