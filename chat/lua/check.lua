-- Whether a user key is good.    KEYS  the owner's record    ARGV  hash of the key
--#include clock good
return is_good(redis.call('HGET', KEYS[1], 'k:' .. ARGV[1]), clock()) and 1 or 0
