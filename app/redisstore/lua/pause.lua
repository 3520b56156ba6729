-- pause.lua pauses a webhook, or resumes it. One that a worker has at the moment is left
-- to it: how the attempt ends is written down, and what is due follows from that.
--
-- KEYS[1]  webhooks  sorted set: webhook id, when it is due, ms; +inf: not by itself
-- KEYS[2]  webhook   hash, see keys.go
-- KEYS[3]  events    stream
-- ARGV[1]  webhook id
-- ARGV[2]  why it is paused; '' resumes it
-- ARGV[3]  now, ms
-- ARGV[4]  event, JSON
-- ARGV[5]  length of the event stream
--
-- Returns 1, 0 when it is so already, or -1 when there is no such webhook.
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
