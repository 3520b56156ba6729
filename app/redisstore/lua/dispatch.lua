-- dispatch.lua gives one worker the webhooks that are due, and the webhooks that wait for an event while the stream has
-- moved on. Each claim has a token until it is completed. The webhook is due again when the lease ends.
--
-- KEYS[1]  webhooks  sorted set: webhook id -> due time, ms; +inf: only an event makes it due
-- KEYS[2]  events    stream
-- ARGV[1]  prefix of the keys of webhooks
-- ARGV[2]  now, ms
-- ARGV[3]  end of the lease, ms
-- ARGV[4]  limit
-- ARGV[5]  token
--
-- Returns {the next due time or '', {id, its hash}...}.
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
  -- An event wakes a webhook whose due time is only the next repetition to Alertmanager.
  local idle = due == 'inf' or (repeats and not claimed and not failing)
  if idle and cursor ~= tip and not paused then take(id) end
end

local next_due = redis.call('ZRANGEBYSCORE', webhooks, '-inf', '(+inf', 'WITHSCORES', 'LIMIT', 0, 1)
out[1] = next_due[2] or ''
return out
