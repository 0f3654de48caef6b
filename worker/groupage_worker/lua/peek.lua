#!lua flags=allow-oom
-- Looks at what waits in a lane; drops heads of queues whose request was settled while it waited.
-- KEYS[1..3] ready of the lane, one per priority (zset)
-- ARGV[1] lane prefix   ARGV[2] most producers looked at per priority   ARGV[3..5] the priorities, as in KEYS
-- RETURNS per priority {accepted_at_ms of the oldest head, tokens of the largest and of the smallest head,
--   accepted_at_ms of the largest}, 0 for none
-- COST O(p + s) for p producers looked at and s stale heads, at most 1000 of them a call
-- INVARIANT no waiting request moves; a producer without waiting requests is not ready
local prefix, most = ARGV[1], tonumber(ARGV[2])
local out, stale = {}, 0

local function head_of(base, priority)
  local queue = base .. 'q:' .. priority
  while true do
    local head = redis.call('LINDEX', queue, 0)
    if not head then return nil end
    local id, tokens, accepted = string.match(head, '^([^|]+)|(%d+)|%d+|(%d+)')
    local found = redis.call('GETRANGE', base .. 'req:' .. id, 0, 64)
    if (string.sub(found, 1, 1) == 'w' and string.sub(found, 53) == accepted) or stale >= 1000 then
      return tonumber(tokens), tonumber(accepted)
    end
    redis.call('LPOP', queue)
    stale = stale + 1
  end
end

for i = 1, 3 do
  local oldest, largest, smallest, since = 0, 0, 0, 0
  for _, producer in ipairs(redis.call('ZRANGE', KEYS[i], 0, most - 1)) do
    local tokens, accepted = head_of(prefix .. 'p:' .. producer .. ':', ARGV[2 + i])
    if not tokens then
      redis.call('ZREM', KEYS[i], producer)
    else
      if oldest == 0 or accepted < oldest then oldest = accepted end
      if tokens > largest then largest, since = tokens, accepted end
      if smallest == 0 or tokens < smallest then smallest = tokens end
    end
  end
  out[i] = {oldest, largest, smallest, since}
end
return out
