-- Whether a user key is valid, by its field in the owner's record:
-- `<ms when it expires, or 0> <its last characters>`.
local function is_good(field, now)
  local expiry = tonumber(string.match(field or '', '^%d+'))
  return expiry == 0 or (expiry or 0) > now
end
