-- The place of a message that would begin. Where it cannot, since a turn runs or others are before
-- it, it takes that place if it waits (mark '': it does not); 0: too many wait already.
local function take_place(chat, waiting, field, nonce, mark, is_free, max_waiting, now)
  local queue = read_queue(field, now)
  local place, stands = find_place(queue, nonce, mark)
  if mark == '' or (is_free and place == 1) then return place end
  if not stands then
    local count = redis.call('ZCOUNT', waiting, now - seen_ms, '+inf')
    if #queue >= most_in_queue or count >= tonumber(max_waiting) then return 0 end
    table.insert(queue, place, {nonce = nonce, mark = mark})
  end
  queue[place].seen = now
  keep_queue(chat, queue)
  see_waiting(waiting, {nonce}, now)
  return place
end
