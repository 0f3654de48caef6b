#!lua flags=allow-oom
-- Ends a freeze, unless another one has begun since.
-- KEYS[1] epoch (hash)
-- ARGV[1] number of the epoch that was recovered
-- RETURNS 1 unfrozen, 0 another freeze has begun
-- COST O(1)
-- INVARIANT only the newest freeze can be ended
local epoch = KEYS[1]
if redis.call('HGET', epoch, 'number') ~= ARGV[1] then
  return 0
end
redis.call('HDEL', epoch, 'frozen_at_ms')
return 1
