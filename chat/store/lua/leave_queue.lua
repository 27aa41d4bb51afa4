-- A message does not wait for its chat any more.
--#keys chat waiting
--#args nonce
--#include clock queue give_place_up
give_place_up(chat, waiting, redis.call('HGET', chat, 'queue'), nonce, clock())
