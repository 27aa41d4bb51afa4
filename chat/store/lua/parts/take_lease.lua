-- Whether messages that a chat counts have been lost, as an eviction does.
local function is_torn(history, messages, count, start)
  if messages then return #messages ~= count - start end
  return count > 0 and redis.call('LLEN', history) ~= count
end

-- Write what begins a turn, with the keys and arguments of `begin`: the lease, the chat if it is
-- new, the repeat, what is counted, the log. Returns why not: 'torn', or the quota that forbids it.
local function take_lease(owner, status, created_at, messages, count, start, queue, now)
  if is_torn(history, messages, count, start) then return 'torn' end
  local room = #asked + (created_at and 0 or 512) -- what a chat itself takes
  local over = over_quota(chats, sizes, not created_at, room, max_chats, max_stored)
  if over then return over end

  local held = status.counted and string.format('%d %d %d', status.tokens, day_of(now), status.cap)
  local fields = {'turn', nonce, 'lease', now + lease_ms, 'began', now, 'said', asked,
    'counted', held or ''}
  if not created_at then
    for _, value in ipairs({'created_at', now, 'updated_at', now, 'message_count', 0,
        'mark', string.sub(nonce, 1, 8), 'born', nonce, 'title', first_title}) do
      fields[#fields + 1] = value
    end
  end
  if recent ~= '' then
    fields[#fields + 1], fields[#fields + 2] = 'recent', recent .. ' ' .. count .. ' ' .. nonce
  end
  redis.call('HSET', chat, unpack(fields))
  if not created_at and max_stored ~= '0' then forget_bytes(sizes, chat_id) end -- that expired
  add_bytes(sizes, chat_id, room, max_stored)
  if queue then give_place_up(chat, waiting, queue, nonce, now) end
  if queue and not created_at then redis.call('PERSIST', chat) end -- see drop.lua
  if not created_at then redis.call('ZADD', chats, now, chat_id) end
  if idempotency_field ~= '' then
    redis.call('HSET', once, idempotency_field, once_entry(body_hash, count, nonce, 'run'))
    redis.call('PERSIST', once) -- what is left of a deleted chat has a time to live
  end

  if status.rates ~= '' or held then
    redis.call('HSET', record, 'rate', status.rates, 'reserved', status.reserved)
  end
  if held then
    redis.call('ZADD', running, now + lease_ms, member_of(chat_id, nonce, held))
    redis.call('PEXPIRE', running, 86400000) -- as long as what is reserved counts
    if everybody then redis.call('HSET', everybody, 'reserved', status.all_reserved) end
  end
  if streamed == '1' then redis.call('XADD', log, '0-1', 'b', '') end
  for _, key in ipairs({chat, history, once}) do expire(key, keep_ms) end
end
