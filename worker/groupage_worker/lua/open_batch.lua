#!lua flags=allow-oom
-- Opens a batch: its record and its reservation, before any request is claimed into it.
-- KEYS[1] batch (hash)   KEYS[2] quota of the deployment (hash)   KEYS[3] due (zset)
-- ARGV[1] attempt field, `batch:attempt`   ARGV[2] tokens to reserve   ARGV[3] limit of the deployment (tokens)
-- ARGV[4] step name   ARGV[5] due (Unix ms)   ARGV[6..] field, value of the record
-- RETURNS {1, reserved tokens} opened; {0, reserved tokens} no room
-- COST O(a) for a open attempts of the deployment
-- INVARIANT the reserved tokens of a deployment never exceed its limit
local batch, quota, due = KEYS[1], KEYS[2], KEYS[3]
local field, tokens, limit = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local reserved = 0
for _, held in ipairs(redis.call('HVALS', quota)) do
  reserved = reserved + tonumber(held)
end
if reserved + tokens > limit then
  return {0, reserved}
end
redis.call('HSET', quota, field, ARGV[2])
redis.call('HSET', batch, unpack(ARGV, 6))
redis.call('ZADD', due, ARGV[5], ARGV[4])
return {1, reserved + tokens}
