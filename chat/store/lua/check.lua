-- Whether a user key is good.    KEYS  the owner's record    ARGV  hash of the key
--#include clock good
local field = redis.call('HGET', KEYS[1], 'k:' .. ARGV[1])
return field and is_good(field, clock()) and 1 or 0
