-- keep.lua makes claims last another lease.
--
-- KEYS[1]  queue  sorted set: instance id, time in ms; see claim.lua
-- KEYS[2]  clock  hash; away is how long the registry was out of reach so far
-- ARGV[1]  now, ms
-- ARGV[2]  lease, ms
-- ARGV[3]  "1" when the queue's times are on the clock that stands still while the
--          registry is out of reach
-- ARGV[4]  id of the first claim, ARGV[5] its token, and so on in pairs
--
-- Returns {the new token, then 1 or 0 for each claim: kept or lost}.
local ends = tonumber(ARGV[1]) + tonumber(ARGV[2])
if ARGV[3] == '1' then ends = ends - tonumber(redis.call('HGET', KEYS[2], 'away') or 0) end

local out = {string.format('%.1f', ends + 0.5)}
for i = 4, #ARGV, 2 do
  local held = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[i]) or -1) == tonumber(ARGV[i + 1])
  if held then redis.call('ZADD', KEYS[1], out[1], ARGV[i]) end
  out[#out + 1] = held and '1' or '0'
end
return out
