#!lua flags=allow-oom
-- Opens the record of a child batch and moves its share of the parent's reservation to it.
-- KEYS[1] child batch (hash)   KEYS[2] quota of the deployment (hash)   KEYS[3] due (zset)
-- ARGV[1] attempt field of the parent   ARGV[2] attempt field of the child   ARGV[3] tokens of the child
-- ARGV[4] step name of the child   ARGV[5] due (Unix ms)   ARGV[6..] field, value of the record
-- RETURNS 1 opened, 0 it was there already
-- COST O(1)
-- INVARIANT the reserved tokens of the deployment do not grow
local child, quota, due = KEYS[1], KEYS[2], KEYS[3]
local from, to = ARGV[1], ARGV[2]
if redis.call('EXISTS', child) == 1 then
  return 0
end
local held = tonumber(redis.call('HGET', quota, from) or 0)
local tokens = math.min(held, tonumber(ARGV[3]))
redis.call('HSET', quota, from, string.format('%.0f', held - tokens), to, string.format('%.0f', tokens))
redis.call('HSET', child, unpack(ARGV, 6))
redis.call('ZADD', due, ARGV[5], ARGV[4])
return 1
