#!lua
-- Makes one client process the one to notify when the request is settled.
-- KEYS[1] request (string)
-- ARGV[1] client (16 characters)
-- RETURNS 1 if the request is open, 0 if not
-- COST O(1)
-- INVARIANT nothing but the client field of the header changes
local key, client = KEYS[1], ARGV[1]
if redis.call('EXISTS', key) == 0 then
  return 0
end
redis.call('SETRANGE', key, 36, client)
return 1
