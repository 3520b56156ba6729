-- claim.lua hands out what falls due to one worker: it moves the time of each
-- entry to when the claim runs out, and that new time is the claim's token. Whoever
-- claims the entry next moves it again, so an old token fits nothing any more.
--
-- Times are whole ms and tokens end in .5: a worker that looks ahead takes what will
-- be due, but not what is claimed until then.
--
-- KEYS[1]  queue      sorted set: instance id, time in ms
-- KEYS[2]  due        the queue of probes, read only
-- KEYS[3]  deadlines  the queue of deadlines, read only
-- KEYS[4]  clock      hash; away is how long the registry was out of reach so far
-- ARGV[1]  prefix     of our keys
-- ARGV[2]  now, ms
-- ARGV[3]  horizon, ms  what is due until then is handed out
-- ARGV[4]  lease, ms
-- ARGV[5]  limit
-- ARGV[6]  "1" when the queue's times are on the clock that stands still while the
--          registry is out of reach
--
-- Returns {away, id, time, token, document, its times in due and deadlines or '', id, ...}.
local queue = KEYS[1]
local now, horizon, lease, limit = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local away = tonumber(redis.call('HGET', KEYS[4], 'away') or 0)
if ARGV[6] == '1' then
  now, horizon = now - away, horizon - away
end

local out = {string.format('%.0f', away)}
local token, last = string.format('%.1f', now + lease + 0.5), string.format('%.0f', horizon)

local function take(id, at)
  local doc = redis.call('GET', ARGV[1] .. 'instance:' .. id)
  if not doc then
    redis.call('ZREM', queue, id)
    return 0
  end
  local n = #out
  out[n + 1], out[n + 2], out[n + 3], out[n + 4] = id, at, token, doc
  out[n + 5] = redis.call('ZSCORE', KEYS[2], id) or ''
  out[n + 6] = redis.call('ZSCORE', KEYS[3], id) or ''
  redis.call('ZADD', queue, token, id)
  return 1
end

local skipped = 0
while limit > 0 do
  local page = redis.call('ZRANGEBYSCORE', queue, '-inf', last, 'WITHSCORES', 'LIMIT', skipped, limit)
  for i = 1, #page, 2 do
    local at = tonumber(page[i + 1])
    if at > now and at % 1 > 0 then
      skipped = skipped + 1
    else
      limit = limit - take(page[i], page[i + 1])
    end
  end
  if #page == 0 then break end
end
return out
