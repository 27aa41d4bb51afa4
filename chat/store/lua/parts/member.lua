-- A running turn in `running`: `<chat> <nonce> <reserved tokens> <day>`, from the chat's field
-- `counted`, which is `<reserved tokens> <day> <largest answer, 0: any>`.
local function cap_of(counted)
  return tonumber(string.match(counted or '', '(%d+)$') or 0)
end

local function member_of(chat_id, nonce, counted)
  return chat_id .. ' ' .. nonce .. ' ' .. string.match(counted, '^%d+ %d+')
end
