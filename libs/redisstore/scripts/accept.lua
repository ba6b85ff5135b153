-- Notes in one round trip that a client has the id. {'slow'}: as in renew.lua.
-- KEYS: record, counter. ARGV: id, start of the mirror keys, schema.
local have = redis.call('HMGET', KEYS[1], 'v', 'f', 'n', 'a', 'z', 'b', 'x', 'p', 'c')
local version = have[1]
if not version or (have[2] ~= '' and have[2] ~= 'endless') or have[5] ~= ARGV[3] then return {'slow'} end
if have[4] ~= '1' then
  -- %.0f writes numbers below 2^53 exactly; tostring would not.
  version = string.format('%.0f', tonumber(version) + 1)
  redis.call('HINCRBY', KEYS[2], 'changes', 1)
  redis.call('HSET', KEYS[1], 'a', '1', 'v', version)
  if have[3] ~= '' then redis.call('ZADD', ARGV[2] .. have[3], 0, ARGV[1]) end
end
return {'ok', {have[6], have[7], '1', version, have[8], have[5], have[9]}}
