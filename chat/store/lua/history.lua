-- Read messages, oldest first; a script because a plain read may come from a lagging replica.
--#keys chat history
-- known: an ETag the caller has ('' = none); index, before: index and id of the message to stop
-- before ('' = none); branch '1': that of a certain message is asked for.
--#args limit known index before branch max_bytes
-- Returns {revision, mark, whether a turn is running, index of the first message, messages},
-- without messages when the known ETag is current; {revision, mark, whether a turn is running,
-- forks} when the chat has forks or a branch is asked for; or false without a message of that id.
--#include stored_message etag collect replayed_bytes
local count, mark, turn, forks, start, bytes = unpack(redis.call('HMGET', chat, 'message_count',
  'mark', 'turn', 'forks', 'start', 'bytes'))
local revision, running = tonumber(count or 0), (turn or '') ~= '' and 1 or 0
if known == etag_of(mark, revision) then return {revision, mark or '', running, 0, {}} end
if forks or branch ~= '' then return {revision, mark or '', running, forks or ''} end

local stop = revision
if before ~= '' then
  if not stored_message(history, index, before) then return false end
  stop = tonumber(index)
end

local messages, room = {}, tonumber(max_bytes)
local replayed = replayed_bytes(bytes, revision)
local safe = replayed and replayed < room and tonumber(start or 0) or math.huge
collect(messages, history, math.max(0, stop - limit), stop - 1, room, safe)
return {revision, mark or '', running, stop - #messages, reversed(messages)}
