-- Write a user's record: give it a key, let older keys expire, set or remove fields.
-- Returns {1}, {0} when the record exists and must not, or the other way round, or {'late', now}.
--#keys record
-- key_hash '': no new key. old_live_ms: how long older keys stay valid ('' = as they are). exists:
-- '1' = the record must exist, '0' = it must not, '' = either. fields: name, value ('' = remove).
--#args key_hash key_ending old_live_ms exists deadline_ms fields...
--#include clock
local now = clock()
if now > tonumber(deadline_ms) then return {'late', now} end
if exists ~= '' and redis.call('HEXISTS', record, 'created_at') ~= tonumber(exists) then
  return {0}
end

if old_live_ms ~= '' then
  local stored = redis.call('HGETALL', record)
  for i = 1, #stored, 2 do
    local field, value = stored[i], stored[i + 1]
    if string.sub(field, 1, 2) == 'k:' then
      local expiry, ending = string.match(value, '^(%d+) (.*)$')
      local expires = now + old_live_ms
      if tonumber(expiry) ~= 0 then expires = math.min(expires, tonumber(expiry)) end
      if expires <= now then
        redis.call('HDEL', record, field)
      else
        redis.call('HSET', record, field, string.format('%d %s', expires, ending))
      end
    end
  end
end

redis.call('HSETNX', record, 'created_at', string.format('%d', now))
if key_hash ~= '' then redis.call('HSET', record, 'k:' .. key_hash, '0 ' .. key_ending) end
for i = 1, #fields, 2 do
  if fields[i + 1] == '' then
    redis.call('HDEL', record, fields[i])
  else
    redis.call('HSET', record, fields[i], fields[i + 1])
  end
end
return {1}
