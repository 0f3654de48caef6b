#!lua flags=allow-oom
-- Moves requests from the manifest of a parent to that of its child, and seals the child's.
-- KEYS[1] manifest of the parent (hash)   KEYS[2] manifest of the child (hash)
-- ARGV[1] time to live (ms)   ARGV[2..] custom_ids
-- RETURNS how many moved now
-- COST O(n) for n requests
-- INVARIANT each request is in exactly one manifest; a repeated call moves only what is left
local parent, child = KEYS[1], KEYS[2]
local moved, tokens, bytes = 0, 0, 0
for i = 2, #ARGV do
  local owed = redis.call('HGET', parent, ARGV[i])
  if owed then
    local t, b = string.match(owed, '^(%d+)|(%d+)')
    redis.call('HDEL', parent, ARGV[i])
    redis.call('HSET', child, ARGV[i], owed)
    moved, tokens, bytes = moved + 1, tokens + tonumber(t), bytes + tonumber(b)
  end
end
redis.call('HINCRBY', parent, '#tokens', -tokens)
redis.call('HINCRBY', parent, '#bytes', -bytes)
redis.call('HINCRBY', child, '#tokens', tokens)
redis.call('HINCRBY', child, '#bytes', bytes)
redis.call('HSET', child, '#sealed', '1')
redis.call('PEXPIRE', child, ARGV[1])
return moved
