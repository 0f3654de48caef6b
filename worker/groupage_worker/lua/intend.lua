#!lua flags=allow-oom
-- Notes that a request is about to be asked online, or that it was not asked after all.
-- KEYS[1] manifest (hash)
-- ARGV[1] field   ARGV[2] by how much: 1 or -1
-- RETURNS the notes so far
-- COST O(1)
-- INVARIANT a small field of a hash that is there anyway: a full Redis does not stop the way out
local manifest = KEYS[1]
return redis.call('HINCRBY', manifest, ARGV[1], ARGV[2])
