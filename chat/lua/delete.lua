-- Delete a chat. A running turn finds itself gone at its next step.
-- KEYS  chat, history, chats    ARGV  chat_id
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('ZREM', KEYS[3], ARGV[1])
