-- Read an owner's record. Returns names and values of its fields, in turn.
--#keys record
return redis.call('HGETALL', record)
