#!lua flags=no-writes
-- Says which slots of a deadline wheel hold anything: a look over hours is one call for each hundred minutes.
-- KEYS[1] load of the lane (hash), not read: it sends the call to where the slots are
-- ARGV[1] first slot   ARGV[2] last one   ARGV[3] what the names of the lane's slots begin with
-- RETURNS those that are there, in order
-- COST O(n) for n slots
-- INVARIANT nothing changes
-- include filled_slots
local first, last = tonumber(ARGV[1]), tonumber(ARGV[2])
return filled_slots(ARGV[3], first, last)
