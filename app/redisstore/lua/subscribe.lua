-- subscribe.lua adds a webhook, which is told of what happens from now on.
--
-- KEYS[1]  webhooks  sorted set: webhook id, when it is due, ms; +inf: not by itself
-- KEYS[2]  webhook   hash, see keys.go
-- KEYS[3]  events    stream
-- ARGV[1]  webhook id
-- ARGV[2]  document
-- ARGV[3]  how many webhooks there may be
-- ARGV[4]  when it is due first, ms, or +inf
--
-- Returns 1, or 0 when there are so many already.
local webhooks, webhook, events = KEYS[1], KEYS[2], KEYS[3]
if redis.call('ZCARD', webhooks) >= tonumber(ARGV[3]) then return 0 end

local newest = redis.call('XREVRANGE', events, '+', '-', 'COUNT', 1)[1]
redis.call('HSET', webhook, 'doc', ARGV[2], 'cursor', newest and newest[1] or '0-0')
redis.call('ZADD', webhooks, ARGV[4], ARGV[1])
return 1
