-- Read some fields of hashes: chats, or an owner's record. Returns one list of values per key.
--#keys hashes...
--#args fields...
local rows = {}
for i, key in ipairs(hashes) do
  rows[i] = redis.call('HMGET', key, unpack(fields))
end
return rows
