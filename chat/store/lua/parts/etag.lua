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
