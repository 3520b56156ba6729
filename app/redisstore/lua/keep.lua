-- keep.lua makes claims last another lease.
--
-- KEYS[1]  queue      sorted set: instance id, time in ms
-- ARGV[1]  new token  the time when the claims run out, ms
-- ARGV[2]  id of the first claim, ARGV[3] its token, and so on in pairs
--
-- Returns 1 or 0 for each claim: kept or lost.
local out = {}
for i = 2, #ARGV, 2 do
  local held = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[i]) or -1) == tonumber(ARGV[i + 1])
  if held then redis.call('ZADD', KEYS[1], ARGV[1], ARGV[i]) end
  out[#out + 1] = held and 1 or 0
end
return out
