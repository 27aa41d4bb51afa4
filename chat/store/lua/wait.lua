-- Messages still wait for a chat: see to it that they keep their places.
--#keys chat waiting
--#args nonces...
-- Returns {now, nonce of the running turn or '', ms left of its lease, whether there is such a
-- chat, nonces in the queue in order}.
--#include clock queue
local now, ours = clock(), {}
for _, nonce in ipairs(nonces) do ours[nonce] = true end

local turn, lease, field, created_at = unpack(redis.call('HMGET', chat,
  'turn', 'lease', 'queue', 'created_at'))
local order, seen = {}, {}
local queue = read_queue(field, now, ours)
for i, entry in ipairs(queue) do
  order[i] = entry.nonce
  if ours[entry.nonce] then seen[#seen + 1] = entry.nonce end
end
if #seen > 0 then
  keep_queue(chat, queue)
  see_waiting(waiting, seen, now)
end

turn = turn or ''
return {now, turn, turn == '' and 0 or tonumber(lease) - now,
  (field or created_at or turn ~= '') and 1 or 0, order}
