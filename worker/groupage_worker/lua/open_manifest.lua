#!lua flags=allow-oom
-- Makes the manifest of a batch, so that claims may fill it.
-- KEYS[1] manifest (hash)   ARGV[1] time to live (ms)
-- RETURNS 1
-- COST O(1)
-- INVARIANT who claims has committed to its record after this: a worker that slept through a loss of Redis finds no manifest
local manifest = KEYS[1]
redis.call('HSET', manifest, '#open', 1)
redis.call('PEXPIRE', manifest, ARGV[1])
return 1
