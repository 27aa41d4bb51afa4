-- Give a user a key.    KEYS  the owner's record
-- ARGV  hash of the new key ("" = none), its last characters, ms that keys it had before live on ("" =
--       as they are), "1" when the user must exist, "0" when only a new one is to be written, then
--       pairs of fields to set ("" = remove)
-- Returns 1, or 0 when it is not so.
--#include clock
if ARGV[4] ~= '' and redis.call('HEXISTS', KEYS[1], 'created_at') ~= tonumber(ARGV[4]) then return 0 end
local now = clock()
if ARGV[3] ~= '' then
  local record = redis.call('HGETALL', KEYS[1])
  for i = 1, #record, 2 do
    local expiry, ending = string.match(record[i + 1], '^(%d+) (.*)$')
    if string.sub(record[i], 1, 2) == 'k:' then
      local dies = now + ARGV[3]
      if tonumber(expiry) ~= 0 then dies = math.min(dies, tonumber(expiry)) end
      if dies <= now then
        redis.call('HDEL', KEYS[1], record[i])
      else
        redis.call('HSET', KEYS[1], record[i], string.format('%d %s', dies, ending))
      end
    end
  end
end
redis.call('HSETNX', KEYS[1], 'created_at', string.format('%d', now))
if ARGV[1] ~= '' then redis.call('HSET', KEYS[1], 'k:' .. ARGV[1], '0 ' .. ARGV[2]) end
for i = 5, #ARGV, 2 do
  if ARGV[i + 1] == '' then redis.call('HDEL', KEYS[1], ARGV[i]) else redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
end
return 1
