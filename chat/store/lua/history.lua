-- Read messages, oldest first; a script because a plain read may come from a lagging replica.
--#keys chat history
-- known: a revision the caller has ('' = none); index, before: index and id of the message to stop
-- before ('' = none); branch '1': that of a certain message is asked for.
--#args limit known index before branch
-- Returns {revision, whether a turn is running, index of the first message, messages}, without
-- messages when the known revision is current; {revision, whether a turn is running, forks} when
-- the chat has forks or a branch is asked for; or false when there is no message of that id.
--#include stored_message
local count, turn, forks = unpack(redis.call('HMGET', chat, 'message_count', 'turn', 'forks'))
local revision, running = tonumber(count or 0), (turn or '') ~= '' and 1 or 0
if known == tostring(revision) then return {revision, running, 0, {}} end
if forks or branch ~= '' then return {revision, running, forks or ''} end

local stop = revision
if before ~= '' then
  if not stored_message(history, index, before) then return false end
  stop = tonumber(index)
end

local first = math.max(0, stop - limit)
if first >= stop then return {revision, running, first, {}} end
return {revision, running, first, redis.call('LRANGE', history, first, stop - 1)}
