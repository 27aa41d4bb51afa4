-- What is remembered of an Idempotency-Key: `<fingerprint of the body> <index> <nonce> <state>` of
-- its turn. State run: it was begun; failed: it left nothing; rolled_back: it was taken back.
local function once_entry(body_hash, index, nonce, state)
  return string.format('%s %d %s %s', body_hash, index, nonce, state)
end

-- Nothing but this record says that a message may run again: not that a turn cannot be found.
local function may_run_again(entry, body_hash)
  local known, state = string.match(entry, '^(%x+) %d+ %x+ (%S+)$')
  return known == body_hash and state == 'failed'
end
