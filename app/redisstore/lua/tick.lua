-- tick.lua advances the clock that deadlines are kept on. It stands still while the
-- registry is out of reach: while no worker ticks, or no web process says that it
-- can take calls.
--
-- KEYS[1]  clock  hash: tick, web: when a worker or web process last said so; away: ms
-- ARGV[1]  now, ms
-- ARGV[2]  patience, ms: a longer silence is an outage
-- ARGV[3]  "worker", "web", or "once" for a worker that does not tick regularly: its
--          silence is no outage, and the silence of the others ends with it
--
-- Returns the outage that has just ended, ms; 0 when there was none.
local clock, now, patience, who = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
if who == 'web' then
  redis.call('HSET', clock, 'web', now)
  return 0
end

local tick = tonumber(redis.call('HGET', clock, 'tick') or 0)
local web = tonumber(redis.call('HGET', clock, 'web') or now)
if tick == 0 then
  if who == 'worker' then redis.call('HSET', clock, 'tick', now) end
  return 0
end
if now <= tick then return 0 end
if who == 'once' and now - tick > patience then
  redis.call('HDEL', clock, 'tick')
else
  redis.call('HSET', clock, 'tick', now)
end
if now - tick > patience or now - web > patience then
  redis.call('HINCRBY', clock, 'away', now - tick)
  return now - tick
end
return 0
