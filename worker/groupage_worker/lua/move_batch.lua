#!lua flags=allow-oom
-- Wishes that a batch at the service goes to another deployment, and holds the room for it there.
-- KEYS[1] batch (hash)   KEYS[2] quota of the target (hash)   KEYS[3] due:light (zset)
-- ARGV[1] attempt field that will hold the rest   ARGV[2] tokens to reserve   ARGV[3] limit of the target (tokens)
-- ARGV[4] target   ARGV[5] reason   ARGV[6] step name   ARGV[7] due (Unix ms)
-- RETURNS 1 wished, 0 the batch is elsewhere, or is ended already, or the target has no room
-- COST O(a) for a open attempts of the target
-- INVARIANT the reserved tokens of the target never exceed its limit; whoever works on the batch now loses its fence,
--   so that a step which never saw the wish cannot commit past it
local batch, quota, due = KEYS[1], KEYS[2], KEYS[3]
local found = redis.call('HMGET', batch, 'state', 'target', 'cancelled_at_ms')
if found[1] ~= 'submitted' or (found[2] or '') ~= '' or tonumber(found[3] or 0) > 0 then
  return 0
end
local reserved = tonumber(ARGV[2])
for _, held in ipairs(redis.call('HVALS', quota)) do
  reserved = reserved + tonumber(held)
end
if reserved > tonumber(ARGV[3]) then
  return 0
end
redis.call('HSET', quota, ARGV[1], ARGV[2])
redis.call('HINCRBY', batch, 'fence', 1)
redis.call('HSET', batch, 'target', ARGV[4], 'move_reason', ARGV[5])
redis.call('ZADD', due, ARGV[7], ARGV[6])
return 1
