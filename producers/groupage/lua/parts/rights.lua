-- Part of scripts that write more than one key: ends the script, before it writes, if its user may not run a command.
local function must_be_allowed(...)
  -- the server refuses it itself, and logs it; before the first write, because a script that ends keeps what it wrote
  if redis.acl_check_cmd and not redis.acl_check_cmd(...) then redis.call(...) end
end
