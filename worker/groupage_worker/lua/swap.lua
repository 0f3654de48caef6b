#!lua flags=allow-oom
-- Writes one field of a hash, unless it has changed since it was read.
-- KEYS[1] hash
-- ARGV[1] field   ARGV[2] value as it was read, empty for none   ARGV[3] value to write
-- RETURNS 1 written, 0 another worker was quicker
-- COST O(1)
-- INVARIANT no change of another worker is overwritten unseen
local hash = KEYS[1]
if (redis.call('HGET', hash, ARGV[1]) or '') ~= ARGV[2] then
  return 0
end
redis.call('HSET', hash, ARGV[1], ARGV[3])
return 1
