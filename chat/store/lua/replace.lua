-- Replace a stored message by another of the same id. Returns 1, or 0 when there is none.
--#keys history
--#args index message
if not redis.call('LINDEX', history, index) then return 0 end
redis.call('LSET', history, index, message)
return 1
