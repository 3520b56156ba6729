-- delivered.lua ends a worker's claim of a webhook and stores its progress.
--
-- KEYS[1]  webhooks  sorted set: webhook id -> due time, ms; +inf: only an event makes it due
-- KEYS[2]  webhook   hash, see keys.go
-- KEYS[3]  attempts  list, newest first
-- KEYS[4]  events    stream
-- ARGV[1]  webhook id
-- ARGV[2]  the claim's token
-- ARGV[3]  the next due time, ms, or +inf
-- ARGV[4]  now, ms
-- ARGV[5]  JSON: fields of the hash and their new values, '' removes a field; replay is present
--          only if the worker has read one
-- ARGV[6]  the attempt, '' for none
-- ARGV[7]  number of attempts to keep
-- ARGV[8]  event, JSON, '' for none
-- ARGV[9]  length of the event stream
--
-- Returns 1, or 0 if the claim is lost.
local webhooks, webhook, attempts, events = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local due, fields = ARGV[3], cjson.decode(ARGV[5])
if redis.call('HGET', webhook, 'token') ~= ARGV[2] then return 0 end

redis.call('HDEL', webhook, 'token')
for field, value in pairs(fields) do
  if value == '' then
    redis.call('HDEL', webhook, field)
  else
    redis.call('HSET', webhook, field, value)
  end
end
if redis.call('HEXISTS', webhook, 'paused') == 1 then
  due = '+inf'
elseif not fields.replay and redis.call('HEXISTS', webhook, 'replay') == 1 then
  due = ARGV[4] -- the replay was requested during the claim
end
redis.call('ZADD', webhooks, due, ARGV[1])
if ARGV[6] ~= '' then
  redis.call('LPUSH', attempts, ARGV[6])
  redis.call('LTRIM', attempts, 0, ARGV[7] - 1)
end
if ARGV[8] ~= '' then redis.call('XADD', events, 'MAXLEN', '~', ARGV[9], '*', 'event', ARGV[8], 'doc', '') end
return 1
