-- A chat's ETag: its mark, which is made with it, and its revision; '0' where there is no chat.
local function etag_of(mark, count)
  return mark and mark .. '.' .. count or '0'
end

-- Whether a chat is as the caller expects ('' = anything). One that is only being made does not
-- count as there: the message waits until that is decided.
local function is_expected(expected, mark, count, born)
  return expected == '' or expected == etag_of(mark, count)
    or (expected == '0' and count == 0 and (born or '') ~= '')
end

-- The messages since an ETag, a thousand at most; of a chat with another mark, all are new.
local function unseen(history, expected, mark, count)
  local seen_mark, seen = string.match(expected, '^(%x+)%.(%d+)$')
  local first = seen_mark and seen_mark == mark and math.min(tonumber(seen), count) or 0
  return redis.call('LRANGE', history, math.max(first, count - 1000), -1)
end
