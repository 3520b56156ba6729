-- claim.lua hands out what falls due to one worker: it moves the time of each
-- entry on by a claim lease, and that new time is the claim's token. Whoever claims
-- the entry next moves it again, so an old token fits nothing any more.
--
-- KEYS[1]  queue        sorted set: instance id, time in ms
-- KEYS[2]  other queue  sorted set of the same shape, read only
-- KEYS[3]  clock        hash; away is how long the registry was out of reach so far
-- ARGV[1]  prefix       of our keys
-- ARGV[2]  now, ms
-- ARGV[3]  horizon, ms  what is due until then is handed out
-- ARGV[4]  lease, ms
-- ARGV[5]  limit
-- ARGV[6]  "1" when the queue's times are on the clock that stands still while the
--          registry is out of reach
--
-- Returns {away, id, due, token, document, time in the other queue or '', id, ...}.
local queue, other = KEYS[1], KEYS[2]
local now, horizon, lease, limit = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local away = tonumber(redis.call('HGET', KEYS[3], 'away') or 0)
if ARGV[6] == '1' then
  now, horizon = now - away, horizon - away
end

local out = {string.format('%.0f', away)}
local token = string.format('%.0f', now + lease)
local due = redis.call('ZRANGEBYSCORE', queue, '-inf', string.format('%.0f', horizon), 'WITHSCORES', 'LIMIT', 0, limit)
for i = 1, #due, 2 do
  local id = due[i]
  local doc = redis.call('GET', ARGV[1] .. 'instance:' .. id)
  if doc then
    redis.call('ZADD', queue, token, id)
    local n = #out
    out[n + 1], out[n + 2], out[n + 3], out[n + 4] = id, due[i + 1], token, doc
    out[n + 5] = redis.call('ZSCORE', other, id) or ''
  else
    redis.call('ZREM', queue, id)
  end
end
return out
