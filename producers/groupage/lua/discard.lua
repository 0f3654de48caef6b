#!lua flags=allow-oom
-- Deletes a reply that nobody needs any more, and what was counted for it.
-- KEYS[1] reply (string)   KEYS[2] load of the producer (hash)   KEYS[3] bytes of its replies by hour of expiry (hash)
-- RETURNS 1 deleted, 0 there was none
-- COST O(1)
-- INVARIANT reply_bytes is the sum of the hours, but for hours that have passed; a user that lacks a right deletes nothing
-- include rights

local bytes = redis.call('STRLEN', KEYS[1])
if bytes == 0 then
  return 0
end
local hour = math.floor(redis.call('PEXPIRETIME', KEYS[1]) / 3600000) + 1
must_be_allowed('UNLINK', KEYS[1])
must_be_allowed('HGET', KEYS[3], hour)
must_be_allowed('HINCRBY', KEYS[3], hour, 0)
must_be_allowed('HINCRBY', KEYS[2], 'reply_bytes', 0)
redis.call('UNLINK', KEYS[1])
-- settle counted with the worker's clock, which may have been an instant and so an hour behind
for _, counted in ipairs({hour, hour - 1}) do
  if tonumber(redis.call('HGET', KEYS[3], counted) or 0) >= bytes then
    redis.call('HINCRBY', KEYS[3], counted, -bytes)
    redis.call('HINCRBY', KEYS[2], 'reply_bytes', -bytes)
    break
  end
end
return 1
