-- Read chats.    KEYS  chat...    ARGV  fields    Returns one list of values per chat.
local chats = {}
for i, key in ipairs(KEYS) do
  chats[i] = redis.call('HMGET', key, unpack(ARGV))
end
return chats
