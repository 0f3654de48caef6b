#!lua flags=no-writes
-- Counts batches by lane, deployment and state.
-- KEYS[1..] batches (hashes)
-- ARGV[1] now (Unix ms)
-- RETURNS lane, deployment, state, batches, since when the oldest is in that state (Unix ms), and so on
-- COST O(n) for n batches
-- INVARIANT reads only; batches that are gone, or have no state, are left out
local counts, oldest, order = {}, {}, {}
for _, batch in ipairs(KEYS) do
  local held = redis.call('HMGET', batch, 'lane', 'deployment', 'state', 'state_at_ms')
  if held[1] and held[2] and held[3] then
    local where = held[1] .. '\n' .. held[2] .. '\n' .. held[3]
    local at = tonumber(held[4] or ARGV[1])
    if not counts[where] then
      order[#order + 1] = { held[1], held[2], held[3], where }
      counts[where], oldest[where] = 0, at
    end
    counts[where] = counts[where] + 1
    oldest[where] = math.min(oldest[where], at)
  end
end
local found = {}
for _, one in ipairs(order) do
  for i = 1, 3 do found[#found + 1] = one[i] end
  found[#found + 1] = counts[one[4]]
  found[#found + 1] = oldest[one[4]]
end
return found
