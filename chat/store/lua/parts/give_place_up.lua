-- A message leaves the queue of its chat, if it is in it: it begins, or its client has left.
local function give_place_up(chat, waiting, field, nonce, now)
  local queue = read_queue(field, now)
  local place, stands = find_place(queue, nonce, ':')
  if stands then table.remove(queue, place) end
  keep_queue(chat, queue)
  redis.call('ZREM', waiting, nonce)
end
