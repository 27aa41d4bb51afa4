-- Give a key its time to live again; ttl_ms '0': it never expires.
local function expire(key, ttl_ms)
  if ttl_ms ~= '0' then redis.call('PEXPIRE', key, ttl_ms) end
end
