-- Reads fields of several hashes at one moment, with the time of the server.
-- ARGV: for each key the number of its fields, and their names.
local t = redis.call('TIME')
local out = {t[1], t[2]}
local at = 0
for i, k in ipairs(KEYS) do
  local n = tonumber(ARGV[at + 1])
  out[i + 2] = redis.call('HMGET', k, unpack(ARGV, at + 2, at + 1 + n))
  at = at + 1 + n
end
return out
