#!lua flags=no-writes
-- Says which slots of a deadline wheel hold anything: a look over hours is one call for each hundred minutes.
-- KEYS[1..] slots (lists), all of one lane
-- RETURNS places of those that are there, counted from 1
-- COST O(n) for n slots
-- INVARIANT nothing changes
local found = {}
for place, slot in ipairs(KEYS) do
  if redis.call('EXISTS', slot) == 1 then
    found[#found + 1] = place
  end
end
return found
