-- subscribe.lua adds a webhook, which receives the events from now on.
--
-- KEYS[1]  webhooks  sorted set: webhook id -> due time, ms; +inf: only an event makes it due
-- KEYS[2]  webhook   hash, see keys.go
-- KEYS[3]  events    stream
-- ARGV[1]  webhook id
-- ARGV[2]  document
-- ARGV[3]  largest number of webhooks
-- ARGV[4]  the first due time, ms, or +inf
--
-- Returns 1, or 0 if the number of webhooks has reached the limit.
local webhooks, webhook, events = KEYS[1], KEYS[2], KEYS[3]
if redis.call('ZCARD', webhooks) >= tonumber(ARGV[3]) then return 0 end

local newest = redis.call('XREVRANGE', events, '+', '-', 'COUNT', 1)[1]
redis.call('HSET', webhook, 'doc', ARGV[2], 'cursor', newest and newest[1] or '0-0')
redis.call('ZADD', webhooks, ARGV[4], ARGV[1])
return 1
