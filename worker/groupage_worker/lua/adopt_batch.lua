#!lua flags=allow-oom
-- Gives a remote batch that Redis forgot its record and its reservation back.
-- KEYS[1] batch (hash)   KEYS[2] quota of the deployment (hash)   KEYS[3] due (zset)
-- ARGV[1] attempt field   ARGV[2] tokens   ARGV[3] step name   ARGV[4] due (Unix ms)   ARGV[5..] field, value
-- RETURNS 1 adopted, 0 there is a record already
-- COST O(1)
-- INVARIANT a record is never overwritten. The reservation is written even above the limit: the tokens are held at
--   the service whether we like it or not
local batch, quota, due = KEYS[1], KEYS[2], KEYS[3]
if redis.call('EXISTS', batch) == 1 then
  return 0
end
redis.call('HSET', quota, ARGV[1], ARGV[2])
redis.call('HSET', batch, unpack(ARGV, 5))
redis.call('ZADD', due, ARGV[4], ARGV[3])
return 1
