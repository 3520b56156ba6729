-- replay.lua requests that a webhook receive events once more.
--
-- KEYS[1]  webhooks  sorted set: webhook id -> due time, ms; +inf: only an event makes it due
-- KEYS[2]  webhook   hash, see keys.go
-- ARGV[1]  webhook id
-- ARGV[2]  the range of events, see keys.go
-- ARGV[3]  now, ms
--
-- Returns 1, 0 if another replay is in progress, or -1 if there is no such webhook.
local webhooks, webhook = KEYS[1], KEYS[2]
if redis.call('EXISTS', webhook) == 0 then return -1 end
if redis.call('HSETNX', webhook, 'replay', ARGV[2]) == 0 then return 0 end

local busy = redis.call('HMGET', webhook, 'token', 'paused', 'failing')
if not (busy[1] or busy[2] or busy[3]) then redis.call('ZADD', webhooks, ARGV[3], ARGV[1]) end
return 1
