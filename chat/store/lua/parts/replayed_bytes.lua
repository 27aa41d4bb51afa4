-- The field `bytes` of a chat, `<revision> <bytes of the messages from start on>`; false when a
-- later revision has not been added up.
local function replayed_bytes(field, revision)
  local of, bytes = string.match(field or '', '^(%d+) (%d+)$')
  return tonumber(of) == revision and tonumber(bytes)
end
