-- dispatch.lua hands out webhooks to one worker: those that are due, and those that wait
-- for something to happen while the events have gone on. Each has a token until it is
-- settled, and is due again when the lease is over.
--
-- KEYS[1]  webhooks  sorted set: webhook id, when it is due, ms; +inf: not by itself
-- KEYS[2]  events    stream
-- ARGV[1]  what the keys of webhooks begin with
-- ARGV[2]  now, ms
-- ARGV[3]  when the lease is over, ms
-- ARGV[4]  limit
-- ARGV[5]  token
--
-- Returns {when the next one is due or '', {id, due, its hash}...}.
local webhooks, events = KEYS[1], KEYS[2]
local now, lease, limit, token = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local newest = redis.call('XREVRANGE', events, '+', '-', 'COUNT', 1)[1]
local tip = newest and newest[1] or '0-0'

local out = {''}
local function take(id)
  local webhook = ARGV[1] .. id
  if redis.call('HEXISTS', webhook, 'paused') == 1 then
    redis.call('HDEL', webhook, 'token')
    redis.call('ZADD', webhooks, '+inf', id)
    return
  end
  out[#out + 1] = {id, redis.call('HGETALL', webhook)}
  redis.call('HSET', webhook, 'token', token)
  redis.call('ZADD', webhooks, lease, id)
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', webhooks, '-inf', now, 'LIMIT', 0, limit)) do take(id) end
local waiting = redis.call('ZRANGEBYSCORE', webhooks, '(' .. now, '+inf', 'WITHSCORES')
for n = 1, #waiting, 2 do
  if #out > limit then break end
  local id, due = waiting[n], waiting[n + 1]
  local h = redis.call('HMGET', ARGV[1] .. id, 'cursor', 'paused', 'token', 'failing', 'repeated')
  local cursor, paused, claimed, failing, repeats = h[1], h[2], h[3], h[4], h[5]
  -- One that only waits to repeat what is firing does not wait with an event.
  local idle = due == 'inf' or (repeats and not claimed and not failing)
  if idle and cursor ~= tip and not paused then take(id) end
end

local next_due = redis.call('ZRANGEBYSCORE', webhooks, '-inf', '(+inf', 'WITHSCORES', 'LIMIT', 0, 1)
out[1] = next_due[2] or ''
return out
