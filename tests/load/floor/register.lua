-- register.lua keeps a registration: one that is known and unchanged is renewed.
--
-- KEYS[1]  instance   string
-- KEYS[2]  service    set of ids
-- KEYS[3]  due        sorted set
-- KEYS[4]  deadlines  sorted set
-- KEYS[5]  events     stream
-- ARGV[1]  id
-- ARGV[2]  document
-- ARGV[3]  when it is due, ms
local instance, service, due, deadlines, events = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local id, doc, at = ARGV[1], ARGV[2], ARGV[3]
if redis.call('GET', instance) == doc then
  redis.call('ZADD', deadlines, at, id)
  return 0
end
redis.call('SET', instance, doc)
redis.call('SADD', service, id)
redis.call('ZADD', due, at, id)
redis.call('ZADD', deadlines, at, id)
redis.call('XADD', events, 'MAXLEN', '~', 10000, '*', 'doc', doc)
return 1
