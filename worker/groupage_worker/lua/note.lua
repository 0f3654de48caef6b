#!lua flags=allow-oom
-- Writes a few fields that the way out needs even when Redis is full: a pause, the deadline wheel's cursor.
-- KEYS[1] hash
-- ARGV[1..] field, value
-- RETURNS fields that are new
-- COST O(n) for n fields
-- INVARIANT only small fields of hashes that are there anyway
local hash = KEYS[1]
return redis.call('HSET', hash, unpack(ARGV))
