-- Whether a user key is good, by its field in the owner's record: `<ms of its end, or 0> <last characters>`.
local function is_good(field, now)
  local ends = tonumber(string.match(field or '', '^%d+'))
  return ends == 0 or (ends or 0) > now
end
