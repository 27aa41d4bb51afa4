-- Whether a user key is valid: 1 or 0.
--#keys record
--#args key_hash
--#include clock is_good
local field = redis.call('HGET', record, 'k:' .. key_hash)
return field and is_good(field, clock()) and 1 or 0
