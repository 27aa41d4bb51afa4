-- Read an owner's record.    KEYS  the record    Returns names and values of its fields.
return redis.call('HGETALL', KEYS[1])
