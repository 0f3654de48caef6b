#!lua flags=allow-oom
-- Moves the cursor of a deadline wheel over slots that hold nothing.
-- KEYS[1] load of the lane (hash)
-- ARGV[1] the cursor as it was read   ARGV[2] slot to move it to   ARGV[3] what the names of the lane's slots begin with
-- RETURNS where the cursor stands now
-- COST O(n) for n slots moved over
-- INVARIANT no slot that holds anything is behind the cursor, also not one that was filled since it was looked at; a
--   cursor that somebody turned back stays where it is
-- include filled_slots
local load, slots = KEYS[1], ARGV[3]
local seen, to = tonumber(ARGV[1]), tonumber(ARGV[2])
local at = tonumber(redis.call('HGET', load, 'due_cursor') or 0)
if at ~= seen then
  return at
end
local held = filled_slots(slots, seen + 1, to, 1)[1]
if held then
  to = held - 1
end
redis.call('HSET', load, 'due_cursor', string.format('%.0f', to))
return to
