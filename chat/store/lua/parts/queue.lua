-- The messages that wait for a chat, in the order in which they are to begin: its field `queue`,
-- `<nonce>:<last seen in ms> ` for each. With `!` for `:`, it does not wait for the running turn to
-- end but has it stopped, and stands in front of those that do. One that nobody has refreshed for
-- a while is dropped: its instance has died, or is frozen.
local seen_ms, most_in_queue = 3000, 64

-- The live ones, and those of `ours` (a set, or nil), which are seen now.
local function read_queue(field, now, ours)
  local queue = {}
  for nonce, mark, seen in string.gmatch(field or '', '(%x+)([:!])(%d+)') do
    if ours and ours[nonce] then seen = now end
    if tonumber(seen) + seen_ms > now then
      queue[#queue + 1] = {nonce = nonce, mark = mark, seen = tonumber(seen)}
    end
  end
  return queue
end

local function keep_queue(chat, queue)
  local field = ''
  for _, entry in ipairs(queue) do
    field = field .. string.format('%s%s%d ', entry.nonce, entry.mark, entry.seen)
  end
  if field ~= '' then
    redis.call('HSET', chat, 'queue', field)
  else
    redis.call('HDEL', chat, 'queue')
  end
end

-- Where a nonce stands in a queue, or else where it would; and whether it does stand there.
local function find_place(queue, nonce, mark)
  local place = #queue + 1
  for i = #queue, 1, -1 do
    if queue[i].nonce == nonce then return i, true end
    if mark == '!' and queue[i].mark == ':' then place = i end
  end
  return place, false
end

-- Count messages of an owner as waiting, wherever that is; they count until they are not seen.
local function see_waiting(waiting, nonces, now)
  for _, nonce in ipairs(nonces) do redis.call('ZADD', waiting, now, nonce) end
  redis.call('ZREMRANGEBYSCORE', waiting, '-inf', now - seen_ms)
  redis.call('PEXPIRE', waiting, seen_ms)
end
