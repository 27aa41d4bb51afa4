-- Delete a user's record. Returns {1}, {0} when there is none, or {'late', now}.
--#keys record
--#args deadline_ms
--#include clock
local now = clock()
if now > tonumber(deadline_ms) then return {'late', now} end
return {redis.call('DEL', record)}
