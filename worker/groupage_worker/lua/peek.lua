#!lua flags=no-writes
-- Looks at what waits in a lane.
-- KEYS[1..3] ready of the lane, one per priority (zset)
-- ARGV[1] lane prefix   ARGV[2] most producers looked at per priority   ARGV[3..5] the priorities, as in KEYS
-- RETURNS per priority {accepted_at_ms of the oldest head, tokens of the largest and of the smallest head}, 0 for none
-- COST O(p) for p producers looked at
-- INVARIANT nothing changes
local prefix, most = ARGV[1], tonumber(ARGV[2])
local out = {}
for i = 1, 3 do
  local oldest, largest, smallest = 0, 0, 0
  for _, producer in ipairs(redis.call('ZRANGE', KEYS[i], 0, most - 1)) do
    local head = redis.call('LINDEX', prefix .. 'p:' .. producer .. ':q:' .. ARGV[2 + i], 0)
    if head then
      local tokens, accepted = string.match(head, '^[^|]+|(%d+)|%d+|(%d+)')
      tokens, accepted = tonumber(tokens), tonumber(accepted)
      if oldest == 0 or accepted < oldest then oldest = accepted end
      if tokens > largest then largest = tokens end
      if smallest == 0 or tokens < smallest then smallest = tokens end
    end
  end
  out[i] = {oldest, largest, smallest}
end
return out
