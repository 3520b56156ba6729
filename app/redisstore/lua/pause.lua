-- pause.lua pauses or resumes a webhook. While a worker has claimed the webhook, its due time stays: the end of the
-- claim sets the next one (see delivered.lua).
--
-- KEYS[1]  webhooks  sorted set: webhook id -> due time, ms; +inf: only an event makes it due
-- KEYS[2]  webhook   hash, see keys.go
-- KEYS[3]  events    stream
-- ARGV[1]  webhook id
-- ARGV[2]  the reason for the pause; '' resumes the webhook
-- ARGV[3]  now, ms
-- ARGV[4]  event, JSON
-- ARGV[5]  length of the event stream
--
-- Returns 1, 0 if the webhook is already paused or running, or -1 if there is no such webhook.
local webhooks, webhook, events = KEYS[1], KEYS[2], KEYS[3]
local id, reason = ARGV[1], ARGV[2]
if redis.call('EXISTS', webhook) == 0 then return -1 end
if (redis.call('HEXISTS', webhook, 'paused') == 1) == (reason ~= '') then return 0 end

local due = ARGV[3]
if reason == '' then
  redis.call('HDEL', webhook, 'paused', 'failing', 'repeated')
else
  due = '+inf'
  redis.call('HSET', webhook, 'paused', reason)
end
if redis.call('HEXISTS', webhook, 'token') == 0 then redis.call('ZADD', webhooks, due, id) end
redis.call('XADD', events, 'MAXLEN', '~', ARGV[5], '*', 'event', ARGV[4], 'doc', '')
return 1
