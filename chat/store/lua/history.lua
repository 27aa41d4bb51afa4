-- Read messages, oldest first; a script because a plain read may come from a lagging replica.
-- KEYS  chat, history
-- ARGV  limit, the revision the caller knows ("" = none), index and id of the message before
--       which to stop ("" = none), "1" when a branch is asked for
-- Returns {revision, whether a turn is running, first_index, messages}; no messages when the
-- known revision is current; false when there is no message of that id; or {revision, whether a
-- turn is running, forks} when the chat has forks or a branch is asked for.
local chat = redis.call('HMGET', KEYS[1], 'message_count', 'turn', 'forks')
local revision, running = tonumber(chat[1] or 0), (chat[2] or '') ~= '' and 1 or 0
if ARGV[2] == tostring(revision) then
  return {revision, running, 0, {}}
end
if chat[3] or ARGV[5] ~= '' then
  return {revision, running, chat[3] or ''}
end
local stop = revision
if ARGV[4] ~= '' then
  local message = redis.call('LINDEX', KEYS[2], ARGV[3])
  if not message or string.find(message, '{"id":"' .. ARGV[4] .. '"', 1, true) ~= 1 then
    return false
  end
  stop = tonumber(ARGV[3])
end
local first = math.max(0, stop - ARGV[1])
if first >= stop then
  return {revision, running, first, {}}
end
return {revision, running, first, redis.call('LRANGE', KEYS[2], first, stop - 1)}
